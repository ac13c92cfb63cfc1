# SPDX-License-Identifier: Apache-2.0
"""The step ``resize``: images to another height and width.

Owns one fixed definition (docs/spec/bundle.md, BND-17): bilinear, half-pixel centres,
no antialiasing, the border repeated. It is what ONNX ``Resize`` calls ``half_pixel``
with ``linear``, and TensorFlow ``half_pixel_centers``. Sums and products are of single
float32 values, so that every machine has the same bits.
"""

from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError
from edge_contract.steps.parameters import MAX_LENGTH, Parameters, StepSpec

Float32 = NDArray[np.float32]
Taps = tuple[NDArray[np.int64], NDArray[np.int64], Float32]


class Resize:
    """From images of one size to another.

    Args:
        taken: Height, width and channels of what is taken.
        given: Height and width of what is given.
    """

    def __init__(self, taken: tuple[int, int, int], given: tuple[int, int]) -> None:
        self.takes: tuple[int, ...] | None = taken
        self._given = given

    @classmethod
    def parse(cls, step: StepSpec, place: str) -> Self:
        """Read ``from`` (height, width, channels) and ``to`` (height, width).

        Raises:
            StepError: These are no sizes.
        """
        parameters = Parameters(step, place, {"from", "to"})
        height, width, channels = parameters.lengths("from", 3)
        to_height, to_width = parameters.lengths("to", 2)
        if max(height * width, to_height * to_width) * channels > MAX_LENGTH:
            raise parameters.refused(f"images of at most {MAX_LENGTH} values")
        return cls((height, width, channels), (to_height, to_width))

    def gives(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what comes of an image of ``shape``.

        Raises:
            StepError: It takes another shape.
        """
        if shape != self.takes:
            msg = f"resize: expected images {list(self.takes or ())}, found"
            msg += f" {list(shape)}"
            raise StepError(msg, next_step="give the source's size as from")
        return (*self._given, shape[2])

    def apply(self, frames: Float32) -> Float32:
        """Resize images.

        Args:
            frames: float32 [n, H, W, C].

        Returns:
            float32 [n, h, w, C].
        """
        return resize(frames, *self._given)


def resize(frames: Float32, height: int, width: int) -> Float32:
    """Resize images (float32 [n, H, W, C]) to float32 [n, height, width, C].

    >>> resize(np.array([[[[0.0], [4.0]]]], np.float32), 1, 4).ravel().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    low, high, share = _taps(frames.shape[1], height)
    share = share[:, np.newaxis, np.newaxis]
    rows = _between(frames[:, low], frames[:, high], share)
    low, high, share = _taps(frames.shape[2], width)
    share = share[:, np.newaxis]
    return _between(rows[:, :, low], rows[:, :, high], share)


def _between(low: Float32, high: Float32, share: Float32) -> Float32:
    found: Float32 = low + (high - low) * share
    return found


@lru_cache(maxsize=16)
def _taps(taken: int, given: int) -> Taps:
    """Return, for each place, its two neighbours and the share of the second."""
    places = (np.arange(given) + 0.5) * (taken / given) - 0.5
    places = places.clip(0, taken - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, taken - 1)
    return low, high, (places - low).astype(np.float32)
