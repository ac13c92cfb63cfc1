# SPDX-License-Identifier: Apache-2.0
"""The capture ring: where the hot path leaves a copy of each inference.

Owns a bounded queue for one producer and one consumer at a time, and the block of
arrays that a batch of it becomes. A slot is one reference: building arrays on the hot
path would cost more than all else around the model. It counts nothing; see
``accumulator``.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_agent.flow import Float32, Int64

MEMORY_BYTES: Final = 1024 * 1024
MIN_SLOTS: Final = 8
MAX_SLOTS: Final = 1024
# Stream, whether it starts here, rows, their times, output, latency in ns.
Slot = tuple[str, bool, Float32 | None, Int64 | int, Float32 | None, int]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive inferences. A *point* is a row, or an inference that has none.

    Attributes:
        streams: Name of each inference's stream.
        starts: Of each, whether its first row starts the stream.
        row_counts: int64 [n], how many rows it has.
        rows: float32 [sum of ``row_counts``, C].
        times_us: int64 [points], of each.
        outputs: float32 [n, K]; NaN where the inference failed.
        latencies_ns: int64 [n].
    """

    streams: tuple[str, ...]
    starts: tuple[bool, ...]
    row_counts: Int64
    rows: Float32
    times_us: Int64
    outputs: Float32
    latencies_ns: Int64

    def __len__(self) -> int:
        return len(self.streams)


class Ring:
    """Slots for observations, as many as fit a megabyte.

    Args:
        max_rows: Most new rows of one inference.
        width: Values of a row.
        outputs: Values of an output.

    Attributes:
        slots: How many may be held.
        held: The queue; the hot path appends to it.
    """

    def __init__(self, max_rows: int, width: int, outputs: int) -> None:
        slot_bytes = max_rows * (width * 4 + 8) + outputs * 4
        self.slots = min(max(MEMORY_BYTES // slot_bytes, MIN_SLOTS), MAX_SLOTS)
        self._width = width
        self._failed = np.full(outputs, np.nan, dtype=np.float32)
        self.held: deque[Slot] = deque()

    def take(self) -> Block | None:
        """Remove what is held by now, oldest first, and return it as arrays."""
        count = len(self.held)
        if not count:
            return None
        pop = self.held.popleft
        streams, starts, rows, times, outputs, latencies = zip(
            *[pop() for _ in range(count)], strict=True
        )
        found = [one for one in rows if one is not None]
        row_counts = np.array([0 if one is None else len(one) for one in rows])
        made = [self._failed if one is None else one for one in outputs]
        return Block(
            streams,
            starts,
            row_counts,
            _join(found, int(row_counts.sum()), self._width),
            _as_points(times, row_counts),
            _join(made, count, len(self._failed)),
            np.array(latencies, dtype=np.int64),
        )


def _join(arrays: Sequence[Float32], rows: int, width: int) -> Float32:
    """Return contiguous arrays as one, float32 [rows, width].

    ``np.concatenate`` looks at each array for five times as long as its few values take
    to copy.
    """
    buffers: Any = arrays  # an array is a buffer, which numpy 1.24 does not declare
    return np.frombuffer(b"".join(buffers), dtype=np.float32).reshape(rows, width)


def _as_points(times: tuple[Int64 | int, ...], row_counts: Int64) -> Int64:
    """Return the time of each point; one number is that of all the points it has."""
    if set(map(type, times)) == {int}:
        whole: Int64 = np.array(times, dtype=np.int64)
        points = np.maximum(row_counts, 1)
        return whole if len(whole) == points.sum() else np.repeat(whole, points)
    return np.concatenate(
        [
            np.full(max(int(rows), 1), one) if isinstance(one, int) else one
            for one, rows in zip(times, row_counts, strict=True)
        ]
    )
