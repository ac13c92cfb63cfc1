# SPDX-License-Identifier: Apache-2.0
"""What a reference profile says about a row, as arrays over features.

Owns the reading of a profile for the fleetwide rule: bins padded to sixteen, so that
all features of all devices are scored in one pass. Nothing of a device.
"""

from dataclasses import dataclass

import numpy as np

from edge_contract.binning import BINS, Float64, Int64
from edge_contract.profile import ReferenceProfile
from edge_contract.window import WindowStatistics
from fleet.drift.fleetwide.arrays import Bools, Real


@dataclass(frozen=True, eq=False)
class Scale:
    """The parts of a reference profile that the fleetwide rule uses.

    Attributes:
        names: The features.
        mean: float64 [F], of the reference rows.
        sd: float64 [F]; 1 where the feature is constant.
        shares: float32 [F, 16], of each bin; 0 in padding.
        width: int64 [F], bins of each feature.
        missing: float64 [F], share of missing values.
        between: float64 [2, F], sd of the groups' own levels: mean, log-variance.
    """

    names: tuple[str, ...]
    mean: Float64
    sd: Float64
    shares: Real
    width: Int64
    missing: Float64
    between: Float64
    _bins: Int64

    @classmethod
    def read(cls, profile: ReferenceProfile) -> "Scale":
        """Read what is needed from ``profile``."""
        features = profile.features
        shares = np.zeros((len(features), BINS), dtype=np.float32)
        bins = np.full((len(features), BINS), profile.layout.size, dtype=np.int64)
        for index, one in enumerate(features):
            place = profile.layout.bins(index)
            shares[index, : len(one.counts)] = one.counts / one.counts.sum()
            bins[index, : len(one.counts)] = np.arange(place.start, place.stop)
        sd = np.array([one.sd for one in features])
        rows = np.array([one.counts.sum() + one.missing for one in features])
        location = np.array([one.location_between for one in features])
        scale = np.array([one.scale_between for one in features])
        return cls(
            names=tuple(one.name for one in features),
            mean=np.array([one.mean for one in features]),
            sd=np.where(sd > 0, sd, 1.0),
            shares=shares,
            width=np.array([len(one.counts) for one in features]),
            missing=np.array([one.missing for one in features]) / rows,
            between=np.sqrt(np.stack((location, scale))),
            _bins=bins,
        )

    def pad(self, counts: Int64) -> Int64:
        """Return a window's bins as int64 [F, 16] (0 in padding)."""
        padded: Int64 = np.append(counts, 0)[np.minimum(self._bins, counts.size)]
        return padded


@dataclass(frozen=True, eq=False)
class Slot:
    """The windows of one time slot, a column a device.

    Attributes:
        number: Slots since 1970.
        devices: int64 [n], the columns' places in the fleet.
        rows: float32 [F, n], finite values.
        mean: float32 [F, n], distance from the reference mean, in reference sd.
        log_variance: float32 [F, n], against the reference's.
        counts: float32 [F, 16, n]; all 0 for private windows, as are the next three.
        missing: float32 [F, n].
        outside: float32 [F, n], values beyond the reference's range.
        repeat: float32 [F, n].
        release: Names of the columns' serving releases.
        trusted: bool [n], whether the window's time is known.
        span: How many slots a window is long.
    """

    number: int
    devices: Int64
    rows: Real
    mean: Real
    log_variance: Real
    counts: Real
    missing: Real
    outside: Real
    repeat: Real
    release: tuple[str, ...]
    trusted: Bools
    span: int = 1


# A stuck feature has no variance; its logarithm must stay finite. And a device may
# report any number: what is this far away is far away.
LEAST_VARIANCE, MOST_VARIANCE = 1e-6, 1e12
_FARTHEST = 1e4


def read_columns(
    windows: list[WindowStatistics], profile: ReferenceProfile, scale: Scale
) -> dict[str, Real]:
    """Return the arrays of a ``Slot`` that statistics give."""
    layout = profile.layout
    # Noise of a private window is in the history of its mean; a count alone is noise.
    exact = np.array([not one.epsilon_millionths for one in windows])
    valid = np.stack([np.maximum(one.valid(layout), 0) for one in windows], axis=1)
    seen = np.maximum(valid, 1)
    mean = np.stack([one.mean for one in windows], axis=1)
    variance = np.stack([one.m2 for one in windows], axis=1) / seen
    with np.errstate(over="ignore"):
        ratio = variance / scale.sd[:, np.newaxis] ** 2
        distance = (mean - scale.mean[:, np.newaxis]) / scale.sd[:, np.newaxis]
    ratio = np.clip(np.nan_to_num(ratio), LEAST_VARIANCE, MOST_VARIANCE)
    distance = np.clip(
        np.where(valid > 0, np.nan_to_num(distance), 0), -_FARTHEST, _FARTHEST
    )

    def counter(part: slice) -> Real:
        counted: Int64 = np.stack([one.counts[part] for one in windows], 1) * exact
        return counted.astype(np.float32)

    return {
        "rows": valid.astype(np.float32),
        "mean": distance.astype(np.float32),
        "log_variance": np.log(ratio).astype(np.float32),
        "counts": (
            np.stack([scale.pad(one.counts) for one in windows], axis=2) * exact
        ).astype(np.float32),
        "missing": counter(layout.missing),
        "outside": counter(layout.below) + counter(layout.above),
        "repeat": counter(layout.repeat),
    }
