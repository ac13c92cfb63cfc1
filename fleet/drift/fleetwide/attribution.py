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
        gate: Least effect.

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
    causes: list[Cause] = []
    while len(causes) < MOST_CAUSES:
        scored = [found for one in candidates if (found := _explain(rest, one, whole))]
        fit = [
            one
            for one in scored
            if one.score >= _LEAST_SCORE and abs(one.effect) >= gate
        ]
        if not fit:
            break
        most = max(one.share for one in fit)
        best = min(
            (one for one in fit if one.share >= _EQUAL * most),
            key=lambda one: (one.candidate.rank, -one.share),
        )
        causes.append(best)
        rest[best.candidate.columns] -= best.effect
    return causes


def _explain(rest: Real, candidate: Candidate, whole: float) -> Cause | None:
    part = rest[candidate.columns]
    part = part[~np.isnan(part)]
    if len(part) < 8:
        return None
    effect = float(np.median(part))
    off = np.abs(part - effect)
    gain = float(np.abs(part).sum() - off.sum())
    spread = max(float(np.median(off)) * _MAD_TO_SD, 1e-6)
    score = abs(effect) / (spread * _MEDIAN_ERROR / np.sqrt(len(part)))
    if gain <= 0:
        return None
    return Cause(candidate, effect, float(score), gain / max(whole, 1e-12))
