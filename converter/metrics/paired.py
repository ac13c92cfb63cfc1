# SPDX-License-Identifier: Apache-2.0
"""The interval of an accuracy drop from counts of frames.

Owns the paired score interval of the difference of two proportions (Tango, Statistics
in Medicine 17, 1998) and the number of samples that would prove a drop small enough.
Frames are taken as independent; frames that overlap make the interval too narrow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Z95: Final = 1.959963984540054
_BISECTIONS = 60
_MAX_SAMPLES = 10_000_000


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same samples.

    Attributes:
        worse: Samples that only the first got right.
        better: Samples that only the second got right.
        samples: All samples.
    """

    worse: int
    better: int
    samples: int

    @property
    def drop(self) -> float:
        """The loss of accuracy from the first to the second."""
        return (self.worse - self.better) / self.samples


def drop_upper_bound(pair: Paired) -> float:
    """Return the upper end of the 95 % interval of the drop.

    >>> round(drop_upper_bound(Paired(0, 0, 100)), 4)
    0.037
    """
    low, high = pair.drop, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _score(pair, middle) > -Z95:
            low = middle
        else:
            high = middle
    return high


def _score(pair: Paired, delta: float) -> float:
    """Return Tango's score statistic for a true drop of ``delta``."""
    n, b, c = pair.samples, pair.worse, pair.better
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    share = (root - linear) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    if variance <= 0:
        return 0.0 if b - c == n * delta else math.copysign(math.inf, b - c - n * delta)
    return (b - c - n * delta) / math.sqrt(variance)


def samples_needed(pair: Paired, max_drop: float) -> int | None:
    """Return how many samples would prove the drop, if its rates stay as seen.

    Returns:
        The number, or None when the seen drop is no smaller than ``max_drop``.

    >>> samples_needed(Paired(0, 0, 100), 0.01)
    381
    """
    if pair.drop >= max_drop:
        return None

    def proven(samples: int) -> bool:
        factor = samples / pair.samples
        scaled = Paired(
            math.ceil(pair.worse * factor), math.floor(pair.better * factor), samples
        )
        return drop_upper_bound(scaled) <= max_drop

    low, high = 1, max(2, pair.samples)
    while not proven(high):
        low, high = high, high * 2
        if high > _MAX_SAMPLES:
            return None
    return _first(proven, low, high)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    while low + 1 < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
