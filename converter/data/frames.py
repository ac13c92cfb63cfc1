# SPDX-License-Identifier: Apache-2.0
"""Frames that are in memory already, as the seam ``tensors.Frames`` asks."""

from collections.abc import Iterator
from typing import Final

from converter.tensors import Float32, Int64

BLOCK: Final = 256


class ArrayFrames:
    """An array of frames, float32 [n, *frame shape]."""

    def __init__(self, array: Float32) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Float32]:
        """Yield blocks of up to 256 frames."""
        for start in range(0, len(self._array), BLOCK):
            yield self._array[start : start + BLOCK]

    def take(self, positions: Int64) -> Float32:
        """Return the frames at ``positions`` (int64 [m])."""
        taken: Float32 = self._array[positions]
        return taken
