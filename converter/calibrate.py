# SPDX-License-Identifier: Apache-2.0
"""Activation ranges for static quantization: ours, streamed, equal on every machine.

Owns what is kept of an activation over all frames (its smallest and largest value, then
a histogram of 2,048 bins between them, so that memory does not grow with the frames)
and the ways to a range. Every range is snapped outward to an 11-bit mantissa: the last
bits of an activation differ between kernels and instruction sets, snapped ranges do
not, so the quantized bytes do not either. Which tensors there are is not its matter.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from converter.candidate import RangeMethod
from converter.errors import ConvertQuantizeError
from converter.tensors import Float32, Float64, Frames, Int64

MANTISSA_BITS: Final = 11
BINS: Final = 2048
LEVELS: Final = 256
_SHRINK_STEPS: Final = 40
_KEPT_SHARE: Final = {"p99.99": 0.9999, "p99.9": 0.999}

Activations = Mapping[str, Float32]


@dataclass(frozen=True)
class Range:
    """The values that an activation may take."""

    low: float
    high: float


def snap_outward(value: float, *, up: bool) -> float:
    """Return the nearest number with an 11-bit mantissa above or below ``value``.

    >>> snap_outward(1.0001, up=True), snap_outward(-1.0001, up=False)
    (1.0009765625, -1.0009765625)
    """
    if value == 0:
        return 0.0
    mantissa, exponent = math.frexp(value)
    scaled = math.ldexp(mantissa, MANTISSA_BITS)
    whole = math.ceil(scaled) if up else math.floor(scaled)
    return math.ldexp(float(whole), exponent - MANTISSA_BITS)


def snapped(low: float, high: float) -> Range:
    """Return a range widened to numbers with an 11-bit mantissa."""
    return Range(snap_outward(low, up=False), snap_outward(high, up=True))


class RangeTracker:
    """What two passes over the frames leave of one activation.

    First ``widen`` with every value, then ``count`` every value again.
    """

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf
        self._counts: Int64 = np.zeros(BINS, dtype=np.int64)

    @property
    def extremes(self) -> Range:
        """The snapped smallest and largest value."""
        return snapped(self.low, self.high)

    def widen(self, values: Float32) -> bool:
        """Take values in; return whether they are finite."""
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        self.low, self.high = min(self.low, low), max(self.high, high)
        return True

    def count(self, values: Float32) -> None:
        """Count values that ``widen`` has seen."""
        whole = self.extremes
        width = whole.high - whole.low
        if width <= 0:
            return
        bins = ((values.ravel() - np.float64(whole.low)) * (BINS / width)).astype(int)
        np.clip(bins, 0, BINS - 1, out=bins)
        self._counts += np.bincount(bins, minlength=BINS)

    def range(self, method: RangeMethod) -> Range:
        """Return the snapped range by a method."""
        whole = self.extremes
        if method == "minmax" or whole.high <= whole.low or not self._counts.any():
            return whole
        edges = np.linspace(whole.low, whole.high, BINS + 1)
        if method == "mse":
            return snapped(*_least_error(edges, self._counts))
        return snapped(*_percentiles(edges, self._counts, _KEPT_SHARE[method]))


def track(
    frames: Frames, activations: Callable[[Float32], Iterable[Activations]]
) -> dict[str, RangeTracker]:
    """Run all frames twice and return what is left of each activation.

    Args:
        frames: Calibration frames.
        activations: From a block of frames to the named activations of each.

    Raises:
        ConvertQuantizeError: An activation is not finite on some frame.
    """
    trackers: dict[str, RangeTracker] = {}
    for position, found in enumerate(_each(frames, activations)):
        for name, values in found.items():
            if not trackers.setdefault(name, RangeTracker()).widen(values):
                msg = f"calibration frame {position}: tensor {name!r} is not finite"
                raise ConvertQuantizeError(
                    msg, next_step="check the frame's values and the model's scaling"
                )
    for found in _each(frames, activations):
        for name, values in found.items():
            trackers[name].count(values)
    return trackers


def _each(
    frames: Frames, activations: Callable[[Float32], Iterable[Activations]]
) -> Iterator[Activations]:
    for block in frames:
        yield from activations(block)


def _percentiles(edges: Float64, counts: Int64, share: float) -> tuple[float, float]:
    """Return the narrowest bin edges that leave out 1 - ``share`` on a side."""
    allowed = (1 - share) * float(counts.sum())
    below = np.concatenate(([0], np.cumsum(counts)))
    above = below[-1] - below
    low = int(np.flatnonzero(below <= allowed)[-1])
    high = int(np.flatnonzero(above <= allowed)[0])
    if low >= high:
        return float(edges[0]), float(edges[-1])
    return min(float(edges[low]), 0.0), max(float(edges[high]), 0.0)


def _least_error(edges: Float64, counts: Int64) -> tuple[float, float]:
    """Return the clip that makes squared error least: clipping plus rounding.

    Rounding to 256 levels costs a twelfth of a squared step a value. Both ends shrink
    towards zero in 40 steps; equal errors keep the wider range.
    """
    middles = (edges[:-1] + edges[1:]) / 2
    sums = [np.concatenate(([0.0], np.cumsum(counts * middles**k))) for k in range(3)]
    total = [float(one[-1]) for one in sums]
    shrinks = np.linspace(1.0, 1.0 / _SHRINK_STEPS, _SHRINK_STEPS)
    highs = np.unique(np.maximum(edges[-1], 0.0) * shrinks)[::-1]
    lows = np.unique(np.minimum(edges[0], 0.0) * shrinks)
    inside_high = np.searchsorted(middles, highs, side="right")
    inside_low = np.searchsorted(middles, lows, side="left")
    over = _squared([total[k] - sums[k][inside_high] for k in range(3)], highs)
    under = _squared([sums[k][inside_low] for k in range(3)], lows)
    steps = (highs[:, np.newaxis] - lows) / (LEVELS - 1)
    kept = sums[0][inside_high][:, np.newaxis] - sums[0][inside_low]
    error = over[:, np.newaxis] + under + steps**2 / 12 * np.maximum(kept, 0)
    best = np.unravel_index(int(error.argmin()), error.shape)
    low, high = float(lows[best[1]]), float(highs[best[0]])
    return (low, high) if low < high else (float(edges[0]), float(edges[-1]))


def _squared(moments: list[Float64], at: Float64) -> Float64:
    """Return the sum of squared distances from ``at`` from three power sums."""
    found: Float64 = moments[2] - 2 * at * moments[1] + at**2 * moments[0]
    return found
