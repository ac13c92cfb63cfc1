# SPDX-License-Identifier: Apache-2.0
"""A two-sided CUSUM of log likelihood ratios, many streams at once.

Owns Page's recursion (Page 1954) in the form of an e-detector (Shin, Ramdas and
Rinaldo 2024): while nothing has changed, ``exp(evidence)`` passes a threshold ``h``
on average no sooner than after ``h`` steps. Beside the evidence it keeps the sums
since the estimated change, which say when and how far.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.binning import Float64, Int64

# exp() of it is far over any threshold and far under the largest float.
_MOST_EVIDENCE = 60.0
# Sides times channels: a feature's e-value is the mean over so many.
PARTS: Final = 4
_SIGNS = np.array([1.0, -1.0])[:, np.newaxis, np.newaxis]


@dataclass(frozen=True, eq=False)
class Cusum:
    """The state of 2 sides x 2 channels x F features.

    Attributes:
        evidence: float64 [2, 2, F], log e-value of each side, channel and feature.
        units: int64 [2, 2, F], units since the estimated change, it included.
        windows: int64 [2, 2, F], windows in those.
        contrasts: float64 [2, 2, F], sum of the contrasts since.
        means: float64 [2, 2, F], sum of the standardised means since.
    """

    evidence: Float64
    units: Int64
    windows: Int64
    contrasts: Float64
    means: Float64

    @classmethod
    def start(cls, features: int) -> "Cusum":
        """Return the state before the first unit."""
        shape = (2, 2, features)
        return cls(
            np.zeros(shape),
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape, dtype=np.int64),
            np.zeros(shape),
            np.zeros(shape),
        )

    def quiet(self, guard: float) -> bool:
        """Whether no stream holds more evidence than ``guard``."""
        return bool((self.evidence <= guard).all())

    def e_values(self) -> Float64:
        """Return the e-value of each feature, float64 [F]: the mean over its four."""
        mean: Float64 = np.exp(self.evidence).mean(axis=(0, 1))
        return mean


def advance(
    state: Cusum,
    deviation: Float64,
    dead_zone: Float64,
    delta: float,
    unit: tuple[Float64, Float64, int],
) -> Cusum:
    """Return the state after one more unit.

    Args:
        state: The state so far.
        deviation: float64 [2, F], the unit's contrasts, standardised.
        dead_zone: float64 [2, F], taken off the deviation on both sides.
        delta: The shift of the likelihood ratio.
        unit: The unit's contrasts [2, F], standardised means [F], and windows.
    """
    contrasts, means, windows = unit
    gain = delta * (_SIGNS * deviation - dead_zone) - delta**2 / 2
    going = state.evidence > 0
    evidence = np.minimum(np.maximum(state.evidence, 0) + gain, _MOST_EVIDENCE)
    rising = evidence > 0
    evidence = np.maximum(evidence, 0)

    def carry(before: Float64, now: Float64) -> Float64:
        total: Float64 = np.where(rising, np.where(going, before, 0.0) + now, 0.0)
        return total

    def carry_count(before: Int64, now: int) -> Int64:
        total: Int64 = np.where(rising, np.where(going, before, 0) + now, 0)
        return total

    return Cusum(
        evidence=evidence,
        units=carry_count(state.units, 1),
        windows=carry_count(state.windows, windows),
        contrasts=carry(state.contrasts, contrasts),
        means=carry(state.means, means),
    )
