# SPDX-License-Identifier: Apache-2.0
"""The level that a device is compared with: a guess from the bundle, then its own.

Owns the normal-normal posterior of a device's level (Gelman et al., Bayesian Data
Analysis, 2.5): before its first unit the reference's, uncertain by the variance
between groups; with every unit of its own more and more the device's.
"""

from dataclasses import dataclass

import numpy as np

from edge_contract.binning import Float64


@dataclass(frozen=True, eq=False)
class Baseline:
    """Sums over the units that joined.

    Attributes:
        units: How many.
        contrasts: float64 [2, F], sum of their contrasts.
        means: float64 [F], sum of their standardised means.
    """

    units: int
    contrasts: Float64
    means: Float64

    @classmethod
    def empty(cls, features: int) -> "Baseline":
        """Return the baseline of a device without history."""
        return cls(0, np.zeros((2, features)), np.zeros(features))

    def join(self, contrasts: Float64, means: Float64) -> "Baseline":
        """Return the baseline with one more unit."""
        return Baseline(self.units + 1, self.contrasts + contrasts, self.means + means)

    def level(self, within: Float64, between: Float64) -> tuple[Float64, Float64]:
        """Return the posterior mean and variance of the device's contrasts.

        Args:
            within: float64 [2, F], variance of a unit around its device's level.
            between: float64 [2, F], variance of the devices' levels.

        >>> own = Baseline(3, np.full((2, 1), 6.0), np.zeros(1))
        >>> mean, variance = own.level(np.ones((2, 1)), np.ones((2, 1)))
        >>> mean[0].tolist(), variance[0].tolist()
        ([1.5], [0.25])
        """
        variance = 1.0 / (1.0 / between + self.units / within)
        return self.contrasts / within * variance, variance

    def mean_level(self, within: Float64, between: Float64) -> Float64:
        """Return the posterior of the standardised means, float64 [F].

        The location contrast's variances weigh it: both are in reference sd.
        """
        variance = 1.0 / (1.0 / between[0] + self.units / within[0])
        level: Float64 = self.means / within[0] * variance
        return level
