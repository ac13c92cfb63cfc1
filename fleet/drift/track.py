# SPDX-License-Identifier: Apache-2.0
"""Which windows of a device belong to the model that it runs now.

Owns what happens at a swap of models: the first window under another reference profile
starts a new track, because counts over other bins cannot be compared. A late window of
the former model (resent, or merged in the outbox) is told apart by its place in the
device's outbox, never by a clock. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import EdgeError
from edge_contract.profile import ReferenceProfile
from fleet.drift.device import DeviceState
from fleet.drift.errors import DriftStateError
from fleet.drift.state_codec import decode_state, encode_state

_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Track:
    """A device under one reference profile.

    Attributes:
        ref_id: The profile.
        boot_id: The outbox that the newest window came from.
        seq: The highest seq of that outbox so far.
        state: The memory.
    """

    ref_id: bytes
    boot_id: bytes
    seq: int
    state: DeviceState


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which outbox a window was written, and under which profile."""

    ref_id: bytes
    boot_id: bytes
    seq: int
    closed: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Place":
        """Read the place of a row of ``windows``.

        A merged window has a fresh seq but the place of the first one it covers. A
        merge takes two rows, so it covers an even number of seqs.
        """
        covers: Sequence[int] = row["covers"] or ()
        seq = min(covers, default=row["seq"])
        return cls(row["ref_id"], row["boot_id"], seq, len(covers) // 2 + 1)


def is_late(track: Track | None, place: Place) -> bool:
    """Whether a window under another profile is older than what the track has seen."""
    return (
        track is not None
        and track.ref_id != place.ref_id
        and track.boot_id == place.boot_id
        and place.seq < track.seq
    )


def encode_track(track: Track) -> bytes:
    """Return the bytes of the ``state`` column."""
    return encode_cbor([track.boot_id, track.seq, encode_state(track.state)])


def decode_track(data: bytes, profile: ReferenceProfile) -> Track:
    """Read the bytes of the ``state`` column.

    Raises:
        DriftStateError: They cannot be read, or do not fit the profile.
    """
    try:
        boot_id, seq, state = decode_cbor(data, max_bytes=_MAX_BYTES)
    except (EdgeError, TypeError, ValueError) as error:
        msg = f"drift state under {profile.ref_id.hex()}: cannot be read: {error}"
        step = "nothing: the device's history starts afresh with its next window"
        raise DriftStateError(msg, next_step=step) from error
    return Track(profile.ref_id, boot_id, seq, decode_state(state, profile))
