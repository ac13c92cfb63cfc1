# SPDX-License-Identifier: Apache-2.0
"""What time of day predicts: a kernel over the same phase of earlier days.

Owns the memory of world and cohorts by time of day, and the test for a daily season.
The prediction is a triangular average over half an hour either side, because bins of
whole hours fail on a sharp season. Only earlier days count.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.parameters import SLOTS_A_DAY, SLOTS_AN_HOUR

_REACH: Final = 6
_KERNEL = 1 - np.abs(np.arange(-_REACH, _REACH + 1, dtype=np.float32)) / (_REACH + 1)
KEPT_SLOTS: Final = 2 * SLOTS_A_DAY
_MOST_DAYS = 28.0
_LEAST_AGREEMENT = 0.6


@dataclass(eq=False)
class SamePhase:
    """The memory of N series of R values.

    Attributes:
        recent: float32 [576, R, N], the last two days; NaN where nothing was seen.
        total: float32 [288, R, N], sums over earlier days.
        days: float32 [288, N], how many days are in them.
    """

    recent: Real
    total: Real
    days: Real

    @classmethod
    def start(cls, rows: int, columns: int) -> "SamePhase":
        """Return an empty memory."""
        return cls(
            np.full((KEPT_SLOTS, rows, columns), np.nan, dtype=np.float32),
            np.zeros((SLOTS_A_DAY, rows, columns), dtype=np.float32),
            np.zeros((SLOTS_A_DAY, columns), dtype=np.float32),
        )

    def grow(self, columns: int) -> None:
        """Add series, up to ``columns``."""
        more = columns - self.days.shape[-1]
        if more > 0:
            fresh = SamePhase.start(self.total.shape[1], more)
            self.recent = np.concatenate((self.recent, fresh.recent), axis=-1)
            self.total = np.concatenate((self.total, fresh.total), axis=-1)
            self.days = np.concatenate((self.days, fresh.days), axis=-1)


def enter(memory: SamePhase, slot: int) -> None:
    """Prepare for ``slot``: what is a day old, less the kernel's reach, joins.

    Call it for each slot in turn, also for those without a window.
    """
    old = slot - SLOTS_A_DAY + _REACH
    values = memory.recent[old % KEPT_SLOTS]
    seen = ~np.isnan(values[0])
    phase = old % SLOTS_A_DAY
    memory.total[phase] += np.where(seen, np.nan_to_num(values), 0)
    memory.days[phase] += seen
    excess = np.maximum(memory.days[phase] / _MOST_DAYS, 1)
    memory.total[phase] /= excess
    memory.days[phase] /= excess
    memory.recent[slot % KEPT_SLOTS] = np.nan


def predict(memory: SamePhase, slot: int) -> Real:
    """Return the prediction for ``slot``, float32 [R, N]; NaN without earlier days."""
    phases = (slot + np.arange(-_REACH, _REACH + 1)) % SLOTS_A_DAY
    weight = _KERNEL @ memory.days[phases]
    total = np.einsum("k,krn->rn", _KERNEL, memory.total[phases])
    enough = weight >= _KERNEL.sum() / 4
    return np.where(enough, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def write(memory: SamePhase, slot: int, values: Real) -> None:
    """Keep a slot's values (float32 [R, N], NaN where absent)."""
    memory.recent[slot % KEPT_SLOTS] = values


def read(memory: SamePhase, slot: int) -> Real:
    """Return the values kept for one of the last 576 slots, float32 [R, N]."""
    kept: Real = memory.recent[slot % KEPT_SLOTS]
    return kept


def half_ranges(memory: SamePhase, slot: int, column: int) -> tuple[Real, Real]:
    """Return size and agreement of the daily curve over the last two days.

    Args:
        memory: The memory.
        slot: The newest slot.
        column: The series.

    Returns:
        The smaller half-range of the two days' curves, smoothed over an hour, and
        their correlation, float32 [R] each; 0 where a day has gaps of an hour.
    """
    order = (slot + 1 + np.arange(KEPT_SLOTS)) % KEPT_SLOTS
    series = memory.recent[order][..., column]
    hours = series.reshape(-1, SLOTS_AN_HOUR, series.shape[1])
    counts = (~np.isnan(hours)).sum(axis=1)
    means = np.nansum(hours, axis=1) / np.maximum(counts, 1)
    days = means.reshape(2, -1, series.shape[1])
    size = (days.max(axis=1) - days.min(axis=1)).min(axis=0) / 2
    centred = days - days.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1))
    product = (centred[0] * centred[1]).sum(axis=0)
    agreement = product / np.maximum(length[0] * length[1], 1e-12)
    whole = (counts > 0).all(axis=0)
    return np.where(whole, size, 0), np.where(whole, agreement, 0)


def has_season(size: Real, agreement: Real, gate: float) -> Bools:
    """Return which rows have a daily season, bool [R]."""
    return (size >= gate) & (agreement >= _LEAST_AGREEMENT)
