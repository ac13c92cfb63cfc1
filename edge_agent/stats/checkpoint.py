# SPDX-License-Identifier: Apache-2.0
"""The checkpoint: what must outlive a kill so that every inference is accounted for.

Owns two things. The *checkpoint* holds the open window and how many inferences are
accounted for, in closed windows, in the open one, or as lost. The *produced counter* is
eight bytes in a memory-mapped file, written before an inference is recorded: a mapped
write survives SIGKILL. After a kill, counter minus checkpoint is what was lost.

A power cut may take the counter back to an earlier value, never the checkpoint, which
is in the outbox; ``recover`` handles both.
"""

import mmap
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from edge_agent.errors import StateError
from edge_agent.stats.accumulator import RELEASE_BYTES, Window
from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import CanonicalError, WindowError
from edge_contract.evidence import Feedback, decode_feedback, encode_feedback
from edge_contract.operations import Operations, decode_operations, encode_operations
from edge_contract.varint import decode_counts, encode_counts
from edge_contract.window import WindowStatistics

MAX_CHECKPOINT_BYTES: Final = 256 * 1024
_FORMAT: Final = 1
_COUNTER_BYTES: Final = 8
_UNNAMED: Final = "produced.counter"


def _check_format(found: object) -> None:
    if found != _FORMAT:
        msg = f"expected format {_FORMAT}, found {found!r}"
        raise ValueError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """All that statistics must know after a restart.

    Attributes:
        produced: Inferences accounted for: closed, open, or lost.
        lost: Of these, those still to be declared by the next window.
        closed_windows: Windows ever closed in this slot of the state folder.
        window: The open window.
    """

    produced: int = 0
    lost: int = 0
    closed_windows: int = 0
    window: Window | None = None

    def encode(self) -> bytes:
        """Encode as canonical CBOR."""
        window = None if self.window is None else _window_to_wire(self.window)
        return encode_cbor(
            {
                1: _FORMAT,
                2: self.produced,
                3: self.lost,
                4: self.closed_windows,
                5: window,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "Checkpoint":
        """Parse a checkpoint.

        Raises:
            StateError: Malformed, or of another version.
        """
        try:
            wire = decode_cbor(data, max_bytes=MAX_CHECKPOINT_BYTES)
            _check_format(wire[1])
            window = None if wire[5] is None else _window_from_wire(wire[5])
            return cls(int(wire[2]), int(wire[3]), int(wire[4]), window)
        except (
            CanonicalError,
            WindowError,
            KeyError,
            IndexError,
            TypeError,
            ValueError,
        ) as error:
            msg = f"statistics checkpoint: malformed: {type(error).__name__}: {error}"
            raise StateError(
                msg, next_step="move outbox.sqlite away; the open window is lost"
            ) from error


def recover(checkpoint: Checkpoint, counter: int) -> Checkpoint:
    """Declare lost what was produced after the checkpoint.

    >>> recover(Checkpoint(produced=7, lost=1), 10).lost
    4
    """
    missing = max(0, counter - checkpoint.produced)
    return replace(
        checkpoint,
        produced=checkpoint.produced + missing,
        lost=checkpoint.lost + missing,
    )


def open_counter(state_dir: Path, slot: str) -> "ProducedCounter":
    """Open a slot's produced counter.

    An agent of one slot kept its counter without a name: it becomes the counter of the
    first slot that is opened.

    Raises:
        OSError: The disk refused.
    """
    path, unnamed = state_dir / f"produced-{slot}.counter", state_dir / _UNNAMED
    if unnamed.exists() and not path.exists():
        unnamed.rename(path)
    return ProducedCounter(path)


class ProducedCounter:
    """Inferences ever made in one slot of a state folder, in a mapped file.

    Attributes:
        cell: The count, for the hot path, at index 0.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _COUNTER_BYTES)
            self._map = mmap.mmap(descriptor, _COUNTER_BYTES)
        finally:
            os.close(descriptor)
        # One aligned store of the machine's word; struct.pack_into would write byte
        # by byte, and a kill could leave half a number.
        self.cell = memoryview(self._map).cast("Q")

    @property
    def value(self) -> int:
        """The count."""
        return self.cell[0]

    @value.setter
    def value(self, count: int) -> None:
        self.cell[0] = count

    def sync(self) -> None:
        """Ask for the count to reach the disk."""
        self._map.flush()

    def close(self) -> None:
        """Unmap the file."""
        self.cell.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _window_to_wire(window: Window) -> dict[int, Any]:
    sums = window.statistics
    wire = {
        1: window.start_us,
        2: window.duration_us,
        3: window.release,
        4: sums.ref_id,
        5: [sums.rows, sums.inferences, sums.failed, len(sums.counts)],
        6: encode_counts(sums.counts),
        7: sums.mean.astype("<f8").tobytes() + sums.m2.astype("<f8").tobytes(),
        8: encode_operations(window.operations),
    }
    if window.feedback.labels.any():
        wire[9] = encode_feedback(window.feedback)
    return wire


def _window_from_wire(wire: dict[int, Any]) -> Window:
    rows, inferences, failed, size = wire[5]
    moments = np.frombuffer(wire[7], dtype="<f8").astype(np.float64).reshape(2, -1)
    if len(wire[3]) != RELEASE_BYTES:
        msg = f"expected a release of {RELEASE_BYTES} bytes"
        raise ValueError(msg)
    sums = WindowStatistics(
        ref_id=wire[4],
        rows=rows,
        inferences=inferences,
        failed=failed,
        counts=decode_counts(wire[6], size),
        mean=moments[0],
        m2=moments[1],
    )
    # Operations came later: what an older agent kept has none.
    operations = decode_operations(wire[8]) if 8 in wire else Operations()
    feedback = decode_feedback(wire[9]) if 9 in wire else Feedback.none()
    return Window(wire[1], wire[2], wire[3], sums, operations, feedback=feedback)
