# SPDX-License-Identifier: Apache-2.0
"""Which cause explains most: world, a cohort, or what a deployment touched.

Owns the attribution after a wide alarm: of all candidates the one whose median takes
most off the absolute deviations, subtracted, then the next. The subtraction is the
counterfactual: a cohort of a third drags the world's median along, and the world's
claim ends once the cohort is taken off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Real

MOST_CAUSES: Final = 3
_MOST_STEPS = 2 * MOST_CAUSES
_LEAST_SCORE = 5.0
_MAD_TO_SD = 1.4826
_MEDIAN_ERROR = 1.2533  # of a median, in sd of a mean
_EQUAL = 0.9


@dataclass(frozen=True, eq=False)
class Candidate:
    """A possible cause.

    Attributes:
        kind: ``world``, ``cohort`` or ``deploy``.
        name: ``world``, or ``tag=value``.
        columns: int64, the devices that it holds.
        rank: Of two that explain the same, the lower is taken.
    """

    kind: str
    name: str
    columns: Int64
    rank: int


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause that was found.

    Attributes:
        candidate: Which.
        effect: Median deviation of its devices.
        score: The effect in standard errors.
        share: Part of the absolute deviation that it took off, 0 to 1.
    """

    candidate: Candidate
    effect: float
    score: float
    share: float


def attribute(
    deviation: Real, candidates: Sequence[Candidate], gate: float
) -> list[Cause]:
    """Return the causes of one feature's deviation, the largest first.

    Args:
        deviation: float32 [D], mean deviation of each device since the change; NaN
            where it was not seen.
        candidates: All possible causes.
        gate: Least effect of a cause that is returned.

    >>> d = np.zeros(40, np.float32)
    >>> d[:16] = 0.5
    >>> d += np.linspace(-.05, .05, 40, dtype=np.float32)
    >>> site = Candidate("cohort", "site=a", np.arange(16), 1)
    >>> world = Candidate("world", "world", np.arange(40), 2)
    >>> [one.candidate.name for one in attribute(d, [world, site], 0.05)]
    ['site=a']
    """
    rest = deviation.astype(np.float64)
    whole = float(np.nansum(np.abs(rest)))
    noise = _noise(rest, candidates)
    causes: list[Cause] = []
    for _ in range(_MOST_STEPS):
        scored = [
            found for one in candidates if (found := _explain(rest, one, whole, noise))
        ]
        fit = [one for one in scored if one.score >= _LEAST_SCORE]
        if not fit or len(causes) == MOST_CAUSES:
            break
        most = max(one.share for one in fit)
        best = min(
            (one for one in fit if one.share >= _EQUAL * most),
            key=lambda one: (one.candidate.rank, -one.share),
        )
        # What is too small to be named is taken off all the same: else a part of it
        # that lies over the gate by chance would be named in its place.
        if abs(best.effect) >= gate:
            causes.append(best)
        rest[best.candidate.columns] -= best.effect
    return causes


def _noise(deviation: Real, candidates: Sequence[Candidate]) -> float:
    """Return how much devices stray once every candidate's median is taken off.

    The spread of a small group alone would pass for certain by chance: a median of
    absolute deviations of twenty devices has as many degrees of freedom as seven.
    """
    rest = deviation.copy()
    for one in candidates:
        part = rest[one.columns]
        if not np.isnan(part).all():
            rest[one.columns] = part - np.nanmedian(part)
    left = np.abs(rest[~np.isnan(rest)])
    if not left.size:
        return 0.0
    # Every median that was taken off has taken a degree of freedom with it.
    freedom = max(left.size - len(candidates), 1)
    return float(np.median(left)) * _MAD_TO_SD * float(np.sqrt(left.size / freedom))


def _explain(
    rest: Real, candidate: Candidate, whole: float, noise: float
) -> Cause | None:
    part = rest[candidate.columns]
    part = part[~np.isnan(part)]
    if len(part) < 8:
        return None
    effect = float(np.median(part))
    off = np.abs(part - effect)
    gain = float(np.abs(part).sum() - off.sum())
    spread = max(float(np.median(off)) * _MAD_TO_SD, noise, 1e-6)
    score = abs(effect) / (spread * _MEDIAN_ERROR / np.sqrt(len(part)))
    if gain <= 0:
        return None
    return Cause(candidate, effect, float(score), gain / max(whole, 1e-12))
