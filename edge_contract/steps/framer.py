# SPDX-License-Identifier: Apache-2.0
"""Frames (model inputs) cut from a stream of rows.

Owns how rows overlap between frames and which of them are new. One framer serves one
stream; after a gap in the stream, make a new one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError


@dataclass(frozen=True, eq=False)
class Frame:
    """One model input.

    Attributes:
        data: float32 [length, C], a copy.
        new_rows: How many of its last rows no earlier frame held.
        end_row: Rows of the stream up to and including its last one.
    """

    data: NDArray[np.float32]
    new_rows: int
    end_row: int


class Framer:
    """Cuts frames of ``length`` rows, one every ``hop`` rows.

    Args:
        length: Rows of a frame.
        hop: New rows between two frames, 1 to ``length``.

    Raises:
        StepError: ``length`` or ``hop`` is out of range.

    >>> framer = Framer(length=2, hop=1)
    >>> [one.new_rows for one in framer.push(np.zeros((3, 1), np.float32))]
    [2, 1]
    """

    def __init__(self, length: int, hop: int) -> None:
        if not 1 <= hop <= length:
            msg = f"frame: expected 1 <= hop <= length, found {hop} and {length}"
            raise StepError(msg)
        self._length = length
        self._hop = hop
        self._held: NDArray[np.float32] | None = None
        self._rows = 0
        self._next_end = length

    def push(self, rows: NDArray[np.float32]) -> list[Frame]:
        """Take the stream's next rows (float32 [n, C]); return the frames they end.

        Raises:
            StepError: Another number of columns than before, or not two dimensions.
        """
        rows = np.asarray(rows, dtype=np.float32)
        if rows.ndim != 2 or (
            self._held is not None and rows.shape[1] != self._held.shape[1]
        ):
            expected = "C" if self._held is None else self._held.shape[1]
            msg = f"frame: expected rows [n, {expected}], found {list(rows.shape)}"
            raise StepError(msg)
        held = rows if self._held is None else np.concatenate((self._held, rows))
        self._rows += len(rows)
        first = self._rows - len(held)
        frames = []
        while self._next_end <= self._rows:
            stop = self._next_end - first
            new = self._length if self._next_end == self._length else self._hop
            data = held[stop - self._length : stop].copy()
            frames.append(Frame(data, new, self._next_end))
            self._next_end += self._hop
        keep = min(len(held), self._rows - (self._next_end - self._length))
        self._held = held[len(held) - keep :].copy()
        return frames
