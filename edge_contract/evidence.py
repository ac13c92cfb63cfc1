# SPDX-License-Identifier: Apache-2.0
"""Evidence of a model's errors: labels that came back, and a shadow that disagrees.

Owns docs/spec/windows.md, section "Evidence": how both are counted beside a window, how
they merge, and their form on the wire. It judges nothing; see ``fleet.drift``.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_contract.binning import Int64
from edge_contract.errors import WindowError
from edge_contract.profile import CONFIDENCE_BINS
from edge_contract.varint import decode_counts, encode_counts

_DIGEST_BYTES: Final = 8
_LIMIT: Final = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """Labels for earlier inferences, by the confidence that the model had in them.

    Attributes:
        labels: int64 [16], labels that came.
        errors: int64 [16], those that contradict the model.
    """

    labels: Int64
    errors: Int64

    @classmethod
    def none(cls) -> "Feedback":
        """Return no labels at all."""
        zeros = np.zeros(CONFIDENCE_BINS, dtype=np.int64)
        return cls(zeros, zeros.copy())


@dataclass(frozen=True, slots=True)
class Shadow:
    """A second release that saw the same inputs.

    Attributes:
        release: First 8 bytes of its digest.
        compared: Inferences of both.
        disagreed: Those with another winner.
    """

    release: bytes
    compared: int
    disagreed: int


def merge_feedback(first: Feedback, second: Feedback) -> Feedback:
    """Return the labels of both windows."""
    return Feedback(first.labels + second.labels, first.errors + second.errors)


def merge_shadows(first: Shadow | None, second: Shadow | None) -> Shadow | None:
    """Return both windows' comparisons taken together.

    Raises:
        WindowError: They are of different releases, and do not add up.
    """
    if first is None or second is None:
        return first or second
    if first.release != second.release:
        msg = (
            "shadow: cannot merge comparisons with releases "
            f"{first.release.hex()} and {second.release.hex()}"
        )
        raise WindowError(msg)
    return Shadow(
        first.release,
        first.compared + second.compared,
        first.disagreed + second.disagreed,
    )


def encode_feedback(feedback: Feedback) -> bytes:
    """Return the feedback block; empty where no label came.

    Raises:
        WindowError: A count is negative or too large.
    """
    if not feedback.labels.any():
        return b""
    return encode_counts(np.concatenate((feedback.labels, feedback.errors)))


def decode_feedback(data: bytes) -> Feedback:
    """Read a feedback block.

    Raises:
        WindowError: Malformed, or more errors than labels in a bin.
    """
    both = decode_counts(data, 2 * CONFIDENCE_BINS)
    labels, errors = both[:CONFIDENCE_BINS], both[CONFIDENCE_BINS:]
    if (errors > labels).any():
        msg = "feedback: expected no more errors than labels in a confidence bin"
        raise WindowError(msg)
    return Feedback(labels, errors)


def shadow_to_wire(shadow: Shadow) -> list[Any]:
    """Return the CBOR array of a comparison."""
    return [shadow.release, shadow.compared, shadow.disagreed]


def shadow_from_wire(wire: Any) -> Shadow:
    """Read the CBOR array of a comparison.

    Raises:
        WindowError: Malformed, or more disagreements than comparisons.
    """
    if type(wire) is list and len(wire) == 3:
        release, compared, disagreed = wire
        numbers = type(compared) is int and type(disagreed) is int
        named = type(release) is bytes and len(release) == _DIGEST_BYTES
        if named and numbers and 0 <= disagreed <= compared < _LIMIT:
            return Shadow(release, compared, disagreed)
    msg = "shadow: expected a release, inferences compared, and those that disagreed"
    raise WindowError(msg)
