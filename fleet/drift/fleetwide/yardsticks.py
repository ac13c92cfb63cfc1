# SPDX-License-Identifier: Apache-2.0
"""From sums to what a window is measured with, never too sure of itself.

Owns the standardisation: level, season loading by least squares, standard deviation
and lag-1 correlation of what is left. Both enter by upper confidence limits (Bartlett
1946 for the correlation; the variance of a variance under AR(1) for the sd), since the
streams that alarm falsely are those whose short history underestimates them.
"""

from dataclasses import dataclass

import numpy as np

from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.history import (
    HH,
    HLAG,
    HOUR_PAIRS,
    HOURS,
    LAG,
    PAIRS,
    PP,
    WINDOWS,
    YP,
    YY,
    History,
    P,
    Y,
)
from fleet.drift.fleetwide.parameters import SLOTS_AN_HOUR

_SHRINK_WINDOWS = 100.0
_SHRINK_HOURS = 10.0
_LOADING_NOISE = 0.02**2  # a season smaller than this is noise of medians
_LEAST_SD = np.array([0.01, 0.02, 0.25], dtype=np.float32)[:, np.newaxis, np.newaxis]
_MOST_PHI = 0.95


@dataclass(frozen=True, eq=False)
class Measure:
    """How deviations of one time scale are standardised: float32 [C, F, N] each.

    Attributes:
        inverse: One over the standard deviation's upper limit.
        phi: Upper limit of the lag-1 correlation.
        freedom: Degrees of freedom that the sd rests on.
        damping: At least 1; divides evidence.
    """

    inverse: Real
    phi: Real
    freedom: Real
    damping: Real


@dataclass(frozen=True, eq=False)
class Yardsticks:
    """What the windows of C x F x N streams are measured with.

    Attributes:
        level: float32 [C, F, N].
        loading: float32 [C, F, N], of the season.
        windows: The measure of windows.
        hours: The measure of hourly means.
        slow: bool [C, F, N], judged on hours.
        ready: bool [C, N], has enough history.
        history: float32 [C, N], windows of own history.
        sd: float32 [C, F, N], of one window's deviation.
    """

    level: Real
    loading: Real
    windows: Measure
    hours: Measure
    slow: Bools
    ready: Bools
    history: Real
    sd: Real


def read_yardsticks(
    history: History, upper: Real, least: int, slow_ratio: float
) -> Yardsticks:
    """Return the yardsticks of a history.

    Args:
        history: The sums.
        upper: float32 [N], normal quantile of the upper limits.
        least: Windows that a column needs.
        slow_ratio: Hourly variance ratio above which hours are judged.
    """
    sums, counts = history.sums, np.maximum(history.counts, 1)[:, :, np.newaxis]
    n = counts[WINDOWS]
    mean, season = sums[Y] / n, sums[P] / n
    covariance = sums[YP] / n - mean * season
    spread = np.maximum(sums[PP] / n - season**2, 0)
    loading = covariance / (spread + _LOADING_NOISE)
    explained = 2 * loading * covariance - loading**2 * spread
    variance = np.maximum(sums[YY] / n - mean**2 - explained, _LEAST_SD**2)
    lagged = sums[LAG] / counts[PAIRS] - mean**2 - explained
    ready = history.counts[WINDOWS] >= least
    phi = _shrink(lagged / variance, n, ready, _SHRINK_WINDOWS)
    hourly = np.maximum(sums[HH] / counts[HOURS] - mean**2 - explained, 0)
    in_an_hour = np.clip(n / counts[HOURS], 1, SLOTS_AN_HOUR)
    ratio = np.maximum(1, hourly / (variance * _mean_variance(phi, in_an_hour)))
    hour_lag = sums[HLAG] / counts[HOUR_PAIRS] - mean**2 - explained
    hourly = np.maximum(hourly, _LEAST_SD**2 / SLOTS_AN_HOUR)
    hour_phi = _shrink(hour_lag / hourly, counts[HOURS], ready, _SHRINK_HOURS)
    return Yardsticks(
        level=_single(np.nan_to_num(history.origin) + mean - loading * season),
        loading=_single(loading),
        windows=_measure(variance, phi, n, upper, ratio),
        hours=_measure(hourly, hour_phi, counts[HOURS], upper, np.ones_like(ratio)),
        slow=ratio > slow_ratio,
        ready=ready,
        history=history.counts[WINDOWS],
        sd=_single(np.sqrt(variance)),
    )


def _measure(variance: Real, phi: Real, n: Real, upper: Real, ratio: Real) -> Measure:
    """Take upper limits of both, and pay for the level's own error."""
    phi = np.minimum(phi + upper * np.sqrt((1 - phi**2) / n), _MOST_PHI)
    memory = (1 + phi**2) / (1 - phi**2)
    level_error = (1 + phi) / (1 - phi) * ratio / n
    sd = np.sqrt(variance * n / np.maximum(n - 1, 1))
    sd = sd * (1 + upper * np.sqrt(memory / (2 * n))) * np.sqrt(1 + level_error)
    return Measure(
        inverse=_single(1 / sd),
        phi=_single(phi),
        freedom=_single(np.maximum(n / memory - 1, 4)),
        damping=_single(ratio),
    )


def _shrink(raw: Real, n: Real, ready: Bools, weight: float) -> Real:
    """Shrink correlations to the fleet's median, and keep them in [0, 0.95]."""
    raw = np.clip(np.nan_to_num(raw), -0.5, _MOST_PHI)
    known = np.where(ready[:, np.newaxis], raw, np.nan)
    middle = np.zeros(raw.shape[:2], dtype=np.float64)
    if ready.any():
        some = ready.any(axis=1)
        middle[some] = np.nanmedian(known[some], axis=-1)
    mixed: Real = (n * raw + weight * middle[..., np.newaxis]) / (n + weight)
    return np.clip(mixed, 0, _MOST_PHI)


def _mean_variance(phi: Real, length: Real) -> Real:
    """Return the variance of a mean of ``length`` values of an AR(1) of variance 1.

    >>> float(_mean_variance(np.array(0.0), np.array(12.0))) * 12
    1.0
    """
    tail = 2 * phi * (1 - phi**length) / (length * (1 - phi) ** 2)
    variance: Real = ((1 + phi) / (1 - phi) - tail) / length
    return variance


def _single(values: Real) -> Real:
    return values.astype(np.float32)
