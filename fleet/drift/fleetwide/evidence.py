# SPDX-License-Identifier: Apache-2.0
"""Evidence over time: two-sided likelihood-ratio CUSUMs of many whitened streams.

Owns Page's recursion (Page 1954) on AR(1) innovations as an e-detector (Shin, Ramdas
and Rinaldo 2024): the mean of ``exp(evidence)`` over sides and channels passes ``h``
without a change no sooner than after ``h`` windows on average. Averaging over the
channels pays their number once; combining p-values in each window would pay it always.
"""

from dataclasses import dataclass, fields

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.yardsticks import Measure

_MOST_EVIDENCE = 60.0
_MOST_DEVIATION = 8.0
_SIGNS = np.array([1, -1], dtype=np.float32)[:, np.newaxis, np.newaxis, np.newaxis]


@dataclass(eq=False)
class Evidence:
    """The state of 2 sides x C channels x F features x N columns.

    Attributes:
        log: float32 [2, C, F, N], log e-value of each side and channel.
        began: int32 [2, C, F, N], slot of the estimated change.
        before: float32 [C, F, N], the last standardised deviation.
        hour_before: float32 [C, F, N], that of hours; NaN when none.
        recent: float32 [C, F, N], smoothed deviation, in natural units.
    """

    log: Real
    began: Bools
    before: Real
    hour_before: Real
    recent: Real

    @classmethod
    def start(cls, channels: int, features: int, columns: int) -> "Evidence":
        """Return no evidence."""
        shape = (channels, features, columns)
        return cls(
            np.zeros((2, *shape), dtype=np.float32),
            np.zeros((2, *shape), dtype=np.int32),
            np.zeros(shape, dtype=np.float32),
            np.full(shape, np.nan, dtype=np.float32),
            np.zeros(shape, dtype=np.float32),
        )

    def grow(self, columns: int) -> None:
        """Add columns without evidence, up to ``columns``."""
        channels, features, have = self.recent.shape
        if columns <= have:
            return
        fresh = Evidence.start(channels, features, columns - have)
        for one in fields(self):
            parts = getattr(self, one.name), getattr(fresh, one.name)
            setattr(self, one.name, np.concatenate(parts, axis=-1))

    def totals(self) -> Real:
        """Return the e-value of each feature and column, float32 [F, N].

        Shape counts one side: a remainder that shrinks is no drift.
        """
        sides = np.exp(self.log[:, :-1]).mean(axis=0).sum(axis=0)
        total: Real = (sides + np.exp(self.log[0, -1])) / self.log.shape[1]
        return total

    def peaks(self) -> Real:
        """Return the most log evidence of each column, float32 [N]."""
        most: Real = np.maximum(
            self.log[:, :-1].max(axis=(0, 1, 2)), self.log[0, -1].max(axis=0)
        )
        return most


def standardise(deviation: Real, measure: Measure) -> Real:
    """Return normal scores of deviations whose sd was estimated.

    Student's t to normal by the first term of Cornish and Fisher.
    """
    t = np.clip(deviation * measure.inverse, -_MOST_DEVIATION, _MOST_DEVIATION)
    return t - np.clip(t, -6, 6) * (1 + np.clip(t, -6, 6) ** 2) / (4 * measure.freedom)


def whiten(score: Real, before: Real, follows: Bools, phi: Real, clip: float) -> Real:
    """Return what a score says beyond the one before it, within ``clip`` of zero."""
    innovation = (score - phi * before) / np.sqrt(1 - phi * phi)
    return np.clip(np.where(follows, innovation, score), -clip, clip)


def advance(
    evidence: Evidence,
    innovation: Real,
    measure: Measure,
    allowance: Real,
    which: Bools,
    slot: int,
) -> None:
    """Add one step of evidence, in place.

    Args:
        evidence: The state.
        innovation: float32 [C, F, N], whitened.
        measure: What it was standardised with.
        allowance: float32 [N], the dead zone.
        which: bool [C, F, N], the streams that this step speaks about.
        slot: Its number.
    """
    gain = np.sqrt((1 - measure.phi) / (1 + measure.phi))
    tilt = 2 * gain
    step = tilt * (_SIGNS * innovation - allowance * gain) - tilt * tilt / 2
    held = np.maximum(evidence.log, 0)
    step = np.where(which, step / measure.damping, 0)
    total = np.minimum(held + step, _MOST_EVIDENCE)
    np.copyto(evidence.began, slot, where=(held <= 0) & (step > 0))
    evidence.log = np.maximum(total, 0).astype(np.float32)


def shift_of(
    evidence: Evidence,
    measure: Measure,
    allowance: float,
    place: tuple[int, int, int, int],
    windows: int,
) -> float:
    """Return the mean standardised shift since a stream's estimated change.

    The evidence is linear in the innovations, so it holds their mean.

    Args:
        evidence: The state.
        measure: What the stream was standardised with.
        allowance: The dead zone.
        place: Side, channel, feature, column.
        windows: Steps since the change.
    """
    side, *stream = place
    where = tuple(stream)
    phi = float(measure.phi[where])
    gain = float(np.sqrt((1 - phi) / (1 + phi)))
    log = float(evidence.log[place]) * float(measure.damping[where])
    mean = (log / max(windows, 1) + 2 * gain * gain) / (2 * gain) + allowance * gain
    return (1 if side == 0 else -1) * mean / gain


def clear(evidence: Evidence, features: Int64, columns: Int64) -> None:
    """Drop the evidence of some features of some columns."""
    if features.size and columns.size:
        evidence.log[:, :, features[:, np.newaxis], columns] = 0
