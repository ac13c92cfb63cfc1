# SPDX-License-Identifier: Apache-2.0
"""The window report: window statistics with identity and time, on the wire.

Owns docs/spec/windows.md, section "On the wire". It is the one message sent in bulk, so
its codec is written out instead of declared. Counts are one block of varints, moments
one block of float32; both need the reference profile to be read as statistics, which a
receiver may look up after decoding.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from edge_contract.binning import Float64, Int64
from edge_contract.canonical import decode_cbor, encode_checked
from edge_contract.errors import CanonicalError, MessageError, WindowError
from edge_contract.evidence import (
    Feedback,
    Shadow,
    decode_feedback,
    shadow_from_wire,
    shadow_to_wire,
)
from edge_contract.operations import Operations, decode_operations
from edge_contract.privacy import derive_moments
from edge_contract.profile import Layout, ReferenceProfile
from edge_contract.varint import (
    decode_counts,
    decode_signed_counts,
    encode_counts,
    encode_signed_counts,
)
from edge_contract.window import (
    MAX_A_WINDOW,
    WindowStatistics,
    check_statistics,
)

MAX_WINDOW_BYTES: Final = 32 * 1024
MAX_COVERS: Final = 1024
_REQUIRED: Final = {1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21}
_INTEGERS: Final = (2, 12, 13, 14, 16, 17, 18)
_ID_BYTES: Final = 8
_LIMIT: Final = 2**63


@dataclass(frozen=True, slots=True)
class WindowReport:
    """One closed window.

    Attributes:
        boot_id: Names the outbox, 8 bytes.
        seq: Grows by one a message of that outbox.
        ref_id: The reference profile of the counts, 8 bytes.
        release: First 8 bytes of the digest of the release that served.
        start_us: Start of the window, microseconds since the epoch (event time).
        duration_us: Its length; a merged window spans all that it covers.
        monotonic_us: The device's monotonic clock when the window closed.
        clock_synced: Whether the wall clock was synchronised then.
        rows: Rows observed; noised in a private window, as are inferences.
        inferences: Inferences with finite outputs; in a private window, all.
        failed: Inferences without.
        lost: Inferences that a kill lost before this window: made, never counted.
        covers: The seqs of never sent windows that were merged into this one.
        count_block: Varints, see ``varint``; zigzag in a private window.
        moment_block: float32 mean of every feature, then float32 m2 of every feature;
            empty in a private window.
        operation_block: How the device fared, see ``operations``; empty where unknown.
        epsilon_millionths: Privacy loss of an inference; 0: no private window.
        feedback_block: Labels that came, see ``evidence``; empty where none did.
        shadow: What a second release made of the same inputs.
    """

    boot_id: bytes
    seq: int
    ref_id: bytes
    release: bytes
    start_us: int
    duration_us: int
    monotonic_us: int
    clock_synced: bool
    rows: int
    inferences: int
    failed: int
    lost: int
    covers: tuple[int, ...]
    count_block: bytes
    moment_block: bytes
    operation_block: bytes = b""
    epsilon_millionths: int = 0
    feedback_block: bytes = b""
    shadow: Shadow | None = None

    def encode(self) -> bytes:
        """Encode as canonical CBOR.

        Raises:
            MessageError: A value is out of range.
        """
        body: dict[int, Any] = {
            1: self.boot_id,
            2: self.seq,
            10: self.ref_id,
            11: self.release,
            12: self.start_us,
            13: self.duration_us,
            14: self.monotonic_us,
            15: self.clock_synced,
            16: self.rows,
            17: self.inferences,
            18: self.failed,
            20: self.count_block,
            21: self.moment_block,
        }
        if self.lost:
            body[19] = self.lost
        if self.covers:
            body[22] = list(self.covers)
        if self.operation_block:
            body[23] = self.operation_block
        if self.epsilon_millionths:
            body[24] = self.epsilon_millionths
        if self.feedback_block:
            body[25] = self.feedback_block
        if self.shadow is not None:
            body[26] = shadow_to_wire(self.shadow)
        _check_body(body, self.lost, list(self.covers))
        _optional_parts(body)
        return encode_checked(body)

    @classmethod
    def decode(cls, data: bytes) -> "WindowReport":
        """Decode canonical CBOR.

        Raises:
            MessageError: Not canonical, a key is missing, or a value is out of range.
        """
        try:
            body = decode_cbor(data, max_bytes=MAX_WINDOW_BYTES)
        except CanonicalError as error:
            msg = f"window report: {error}"
            raise MessageError(msg) from error
        if type(body) is not dict or not body.keys() >= _REQUIRED:
            msg = f"window report: expected a map with the keys {sorted(_REQUIRED)}"
            raise MessageError(msg)
        lost, covers = body.get(19, 0), body.get(22, [])
        _check_body(body, lost, covers)
        return cls(
            boot_id=body[1],
            seq=body[2],
            ref_id=body[10],
            release=body[11],
            start_us=body[12],
            duration_us=body[13],
            monotonic_us=body[14],
            clock_synced=body[15],
            rows=body[16],
            inferences=body[17],
            failed=body[18],
            lost=lost,
            covers=tuple(covers),
            count_block=body[20],
            moment_block=body[21],
            **_optional_parts(body),
        )

    def operations(self) -> Operations | None:
        """Read how the device fared; None where the window does not tell.

        Raises:
            WindowError: The block is malformed.
        """
        if not self.operation_block:
            return None
        return decode_operations(self.operation_block)

    def feedback(self) -> Feedback | None:
        """Read the labels that came; None where none did.

        Raises:
            WindowError: The block is malformed.
        """
        if not self.feedback_block:
            return None
        return decode_feedback(self.feedback_block)

    def sums(self, layout: Layout) -> WindowStatistics:
        """Read the blocks as sums under ``layout``; nothing is checked but their form.

        A private window has no moments; they are 0 here, and derived by ``statistics``.

        Raises:
            WindowError: The blocks do not fit the layout.
        """
        if self.epsilon_millionths:
            counts = decode_signed_counts(self.count_block, layout.size)
            decode_moments(self.moment_block, 0)
            mean, m2 = np.zeros(layout.features), np.zeros(layout.features)
        else:
            counts = decode_counts(self.count_block, layout.size)
            mean, m2 = decode_moments(self.moment_block, layout.features)
        return WindowStatistics(
            ref_id=self.ref_id,
            rows=self.rows,
            inferences=self.inferences,
            failed=self.failed,
            counts=counts,
            mean=mean,
            m2=m2,
            epsilon_millionths=self.epsilon_millionths,
        )

    def statistics(self, profile: ReferenceProfile) -> WindowStatistics:
        """Read the blocks as statistics under ``profile``, and check them.

        Raises:
            WindowError: The blocks do not fit the profile, or contradict themselves.
        """
        if self.ref_id != profile.ref_id:
            msg = (
                f"window: expected reference profile {profile.ref_id.hex()}, "
                f"found {self.ref_id.hex()}"
            )
            raise WindowError(msg)
        if self.lost > MAX_A_WINDOW:
            msg = f"window: expected at most {MAX_A_WINDOW} lost, found {self.lost}"
            raise WindowError(msg)
        statistics = self.sums(profile.layout)
        if self.epsilon_millionths:
            if self.feedback_block or self.shadow:
                msg = "private window: expected no labels and no shadow"
                raise WindowError(msg)
            mean, m2 = derive_moments(self.rows, statistics.counts, profile)
            statistics = replace(statistics, mean=mean, m2=m2)
        check_statistics(statistics, profile)
        return statistics


def encode_moments(statistics: WindowStatistics) -> bytes:
    """Return the moment block of ``statistics``, float32 little-endian."""
    both = np.concatenate((statistics.mean, statistics.m2))
    return both.astype("<f4").tobytes()


def decode_moments(data: bytes, features: int) -> tuple[Float64, Float64]:
    """Read a moment block.

    Raises:
        WindowError: The block has another length.
    """
    if len(data) != 8 * features:
        msg = f"moments: expected {8 * features} bytes, found {len(data)}"
        raise WindowError(msg)
    both = np.frombuffer(data, dtype="<f4").astype(np.float64)
    return both[:features], both[features:]


def encode_blocks(statistics: WindowStatistics) -> tuple[bytes, bytes]:
    """Return count block and moment block of ``statistics``.

    Raises:
        WindowError: A count is negative (where no noise was added) or too large.
    """
    counts: Int64 = statistics.counts
    if statistics.epsilon_millionths:
        return encode_signed_counts(counts), b""
    return encode_counts(counts), encode_moments(statistics)


def _check_body(body: dict[Any, Any], lost: Any, covers: Any) -> None:
    numbers = [body[key] for key in _INTEGERS]
    numbers.append(lost)
    if type(covers) is list and len(covers) <= MAX_COVERS:
        numbers += covers
    else:
        msg = f"window report: expected at most {MAX_COVERS} covered seqs"
        raise MessageError(msg)
    are_integers = set(map(type, numbers)) == {int}
    if not (are_integers and min(numbers) >= 0 and max(numbers) < _LIMIT):
        msg = "window report: expected integers from 0 to 2**63 - 1"
        raise MessageError(msg)
    blocks = (body[1], body[10], body[11], body[20], body[21])
    if not all(type(one) is bytes for one in blocks) or any(
        len(one) != _ID_BYTES for one in blocks[:3]
    ):
        msg = "window report: expected three ids of 8 bytes and two blocks"
        raise MessageError(msg)
    if type(body[15]) is not bool:
        msg = "window report: expected clock_synced true or false"
        raise MessageError(msg)


def _optional_parts(body: dict[Any, Any]) -> dict[str, Any]:
    operation_block, feedback_block = body.get(23, b""), body.get(25, b"")
    if type(operation_block) is not bytes or type(feedback_block) is not bytes:
        msg = "window report: expected blocks of operations and of feedback"
        raise MessageError(msg)
    epsilon = body.get(24, 0)
    if type(epsilon) is not int or not (24 not in body or 1 <= epsilon < _LIMIT):
        msg = "window report: expected an epsilon from 1 to 2**63 - 1"
        raise MessageError(msg)
    try:
        shadow = shadow_from_wire(body[26]) if 26 in body else None
    except WindowError as error:
        msg = f"window report: {error.message}"
        raise MessageError(msg) from error
    return {
        "operation_block": operation_block,
        "epsilon_millionths": epsilon,
        "feedback_block": feedback_block,
        "shadow": shadow,
    }
