# SPDX-License-Identifier: Apache-2.0
"""The capture ring: where the hot path leaves a copy of each inference.

Owns preallocated memory for one producer and one consumer. Positions are counted, not
flagged: a slot is the consumer's once ``head`` has passed it, and the producer's again
once ``tail`` has. It counts nothing; see ``accumulator``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_agent.flow import Float32, Int64

MEMORY_BYTES: Final = 1024 * 1024
MIN_SLOTS: Final = 8
MAX_SLOTS: Final = 1024
_NOTHING: Final = np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive slots; arrays are views, valid until they are released.

    Attributes:
        streams: Name of each inference's stream.
        starts: bool [n], whether its first row starts the stream.
        row_counts: int64 [n], how many of its rows are used.
        rows: float32 [n, max_rows, C]; of large frames the list of them, [1, C] each.
        times_us: int64 [n, max_rows].
        outputs: float32 [n, K]; NaN where the inference failed.
        latencies_ns: int64 [n].
    """

    streams: list[str]
    starts: np.ndarray
    row_counts: Int64
    rows: Float32 | list[Float32]
    times_us: Int64
    outputs: Float32
    latencies_ns: Int64

    def __len__(self) -> int:
        return len(self.streams)


class Ring:
    """Preallocated slots for observations.

    Args:
        max_rows: Most new rows of one inference.
        width: Values of a row.
        outputs: Values of an output.
        is_lent: Whether rows are kept as they come instead of copied: large frames,
            one a slot, to which nobody writes any more.
    """

    def __init__(
        self, max_rows: int, width: int, outputs: int, *, is_lent: bool = False
    ) -> None:
        slot_bytes = max_rows * (width * 4 + 8) + outputs * 4
        self.slots = min(max(MEMORY_BYTES // slot_bytes, MIN_SLOTS), MAX_SLOTS)
        shape = (self.slots, max_rows)
        self._lent: list[Float32] = [_NOTHING] * self.slots if is_lent else []
        self._rows = np.empty((*shape, 0 if is_lent else width), dtype=np.float32)
        self._times = np.empty(shape, dtype=np.int64)
        self._outputs = np.empty((self.slots, outputs), dtype=np.float32)
        self._row_counts = np.ones(self.slots, dtype=np.int64)
        self._starts = np.zeros(self.slots, dtype=np.bool_)
        self._latencies = np.zeros(self.slots, dtype=np.int64)
        self._streams = [""] * self.slots
        self._is_single = max_rows == 1
        self.head = 0
        self.tail = 0

    def __len__(self) -> int:
        return self.head - self.tail

    def put(
        self,
        stream: str,
        is_start: bool,  # noqa: FBT001 - ditto
        rows: Float32,
        times_us: Int64 | int,
        output: Float32 | None,
        latency_ns: int,
    ) -> None:
        """Take one observation; the ring must not be full. See ``Observer.record``."""
        slot = self.head % self.slots
        if self._lent:
            self._lent[slot] = rows
            self._times[slot] = times_us
        elif self._is_single:
            self._rows[slot] = rows
            self._times[slot] = times_us
        else:
            count = len(rows)
            self._rows[slot, :count] = rows
            self._times[slot, :count] = times_us
            self._row_counts[slot] = count
        self._outputs[slot] = np.nan if output is None else output
        self._starts[slot] = is_start
        self._latencies[slot] = latency_ns
        self._streams[slot] = stream
        self.head += 1

    def blocks(self) -> Iterator[Block]:
        """Yield what was put, oldest first; each block is released when done with."""
        end = self.head
        while self.tail < end:
            start = self.tail % self.slots
            stop = min(start + end - self.tail, self.slots)
            part = slice(start, stop)
            yield Block(
                self._streams[part],
                self._starts[part],
                self._row_counts[part],
                self._lent[part] if self._lent else self._rows[part],
                self._times[part],
                self._outputs[part],
                self._latencies[part],
            )
            if self._lent:
                self._lent[part] = [_NOTHING] * (stop - start)
            self.tail += stop - start
