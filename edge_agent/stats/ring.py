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

from edge_agent.flow import Float32, Int64, Observation

MEMORY_BYTES: Final = 1024 * 1024
MIN_SLOTS: Final = 8
MAX_SLOTS: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive slots, as views: valid until they are released.

    Attributes:
        streams: Name of each inference's stream.
        starts: bool [n], whether its first row starts the stream.
        row_counts: int64 [n], how many of its rows are used.
        rows: float32 [n, max_rows, F].
        times_us: int64 [n, max_rows].
        outputs: float32 [n, K]; NaN where the inference failed.
    """

    streams: list[str]
    starts: np.ndarray
    row_counts: Int64
    rows: Float32
    times_us: Int64
    outputs: Float32

    def __len__(self) -> int:
        return len(self.streams)


class Ring:
    """Preallocated slots for observations.

    Args:
        max_rows: Most new rows of one inference.
        features: Values of a row.
        labels: Values of an output.
    """

    def __init__(self, max_rows: int, features: int, labels: int) -> None:
        slot_bytes = max_rows * (features * 4 + 8) + labels * 4
        self.slots = min(max(MEMORY_BYTES // slot_bytes, MIN_SLOTS), MAX_SLOTS)
        self._rows = np.empty((self.slots, max_rows, features), dtype=np.float32)
        self._times = np.empty((self.slots, max_rows), dtype=np.int64)
        self._outputs = np.empty((self.slots, labels), dtype=np.float32)
        self._row_counts = np.zeros(self.slots, dtype=np.int64)
        self._starts = np.zeros(self.slots, dtype=np.bool_)
        self._streams = [""] * self.slots
        self.head = 0
        self.tail = 0

    def __len__(self) -> int:
        return self.head - self.tail

    @property
    def is_full(self) -> bool:
        """Whether ``put`` has no slot left."""
        return self.head - self.tail >= self.slots

    def put(self, observation: Observation) -> None:
        """Copy one observation in; the ring must not be full."""
        slot = self.head % self.slots
        count = len(observation.rows)
        self._rows[slot, :count] = observation.rows
        self._times[slot, :count] = observation.times_us
        output = observation.output
        self._outputs[slot] = np.nan if output is None else output
        self._row_counts[slot] = count
        self._starts[slot] = observation.is_start
        self._streams[slot] = observation.stream
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
                self._rows[part],
                self._times[part],
                self._outputs[part],
            )
            self.tail += stop - start
