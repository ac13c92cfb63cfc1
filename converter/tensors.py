# SPDX-License-Identifier: Apache-2.0
"""Tensors as every step of a build names them.

Owns array types, the description of a model's input or output, and the seam through
which steps read frames without holding them all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, shape with the batch of one, and dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


class Frames(Protocol):
    """Frames of one data set, in order, as often as asked, never all in memory."""

    def __len__(self) -> int:
        """Return how many frames there are."""

    def __iter__(self) -> Iterator[Float32]:
        """Yield blocks, float32 [n, *frame shape] with n >= 1, from the first on."""

    def take(self, positions: Int64) -> Float32:
        """Return the frames at ``positions`` (int64 [m], increasing)."""
