# SPDX-License-Identifier: Apache-2.0
"""What a reference profile says about units: contrasts, and how far they may stray.

Owns the reading of a profile for the drift rule, and nothing of a device.
Channel 0 is location, channel 1 is scale (``edge_contract.binning``).
"""

import math
from dataclasses import dataclass

import numpy as np

from edge_contract.binning import (
    Float64,
    Int64,
    location_contrast,
    normal_scores,
    scale_contrast,
)
from edge_contract.profile import FeatureReference, ReferenceProfile
from fleet.drift.sensor import Moments

CHANNELS = ("location", "scale")
# A variance of 0 (a constant feature) must not turn the first odd value into proof.
_LEAST_VARIANCE = 1e-4
# A feature that stopped moving has no spread at all; its logarithm must stay finite.
_LEAST_SPREAD = 1e-6
_LEAST_WIDTH = 5  # bins: a feature of few values repeats itself by nature


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The parts of a reference profile that the drift rule uses.

    Attributes:
        profile: The profile itself.
        within: float64 [2, F], variance of a unit's contrasts inside one group.
        between: float64 [2, F], variance of the groups' own levels.
        mean: float64 [F], of the reference rows.
        sd: float64 [F], of the reference rows; 1 where the feature is constant.
        repeats: float64 [F], usual share of values that repeat the one before; NaN
            where the profile does not tell, or the feature has few values.
    """

    profile: ReferenceProfile
    scores: tuple[Float64, ...]
    within: Float64
    between: Float64
    mean: Float64
    sd: Float64
    repeats: Float64

    @classmethod
    def read(cls, profile: ReferenceProfile) -> "Yardstick":
        """Read what is needed from ``profile``."""
        features = profile.features
        within = np.array(
            [
                [one.location_within for one in features],
                [one.scale_within for one in features],
            ]
        )
        between = np.array(
            [
                [one.location_between for one in features],
                [one.scale_between for one in features],
            ]
        )
        sd = np.array([one.sd for one in features])
        return cls(
            profile=profile,
            scores=tuple(normal_scores(one.counts) for one in features),
            within=np.maximum(within, _LEAST_VARIANCE),
            between=np.maximum(between, _LEAST_VARIANCE),
            mean=np.array([one.mean for one in features]),
            sd=np.where(sd > 0, sd, 1.0),
            repeats=np.array([_usual_repeats(one) for one in features]),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The features."""
        return tuple(one.name for one in self.profile.features)

    def contrasts(self, counts: Int64) -> Float64:
        """Return float64 [2, F]: location and scale; 0 where nothing was counted.

        Args:
            counts: int64 [layout.size].
        """
        result = np.zeros((2, len(self.scores)))
        layout = self.profile.layout
        for feature, scores in enumerate(self.scores):
            bins = counts[layout.bins(feature)]
            if bins.sum() > 0:
                result[0, feature] = location_contrast(bins, scores)
                result[1, feature] = scale_contrast(bins, scores)
        return result

    def standardised_mean(self, mean: Float64, valid: Int64) -> Float64:
        """Return the mean of each feature as its distance from the reference, in sd."""
        return np.where(valid > 0, (mean - self.mean) / self.sd, 0.0)

    def moments(self, means: Float64, spreads: Float64) -> Moments:
        """Return standardised moments in the features' own units."""
        return Moments(self.mean + means * self.sd, np.exp(spreads) * self.sd)

    def log_spread(self, variance: Float64) -> Float64:
        """Return the logarithm of each feature's sd, in reference sd."""
        return np.log(np.maximum(np.sqrt(variance) / self.sd, _LEAST_SPREAD))


def _usual_repeats(feature: FeatureReference) -> float:
    """Return a feature's share of repeats; NaN where it says nothing of a fault."""
    if feature.repeat_ppm is None or len(feature.counts) < _LEAST_WIDTH:
        return math.nan
    return feature.repeat_ppm / 1e6
