# SPDX-License-Identifier: Apache-2.0
"""What the drift rule remembers of one device under one reference profile.

Owns the way from windows to units to evidence: windows are summed to units of
``profile.unit_rows`` (the replicate is about one recording, never a window), each unit
advances the CUSUMs against the device's baseline and may later join that baseline.
Pure: the same windows in the same order give the same state. Whether the evidence is
a verdict is decided over the whole fleet, in ``decide``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_contract.binning import Float64
from edge_contract.window import WindowStatistics, merge
from fleet.drift.baseline import Baseline
from fleet.drift.cusum import Cusum, advance
from fleet.drift.parameters import DriftParameters
from fleet.drift.sensor import find_repeats
from fleet.drift.yardstick import Yardstick

LEAST_USUAL_UNITS: Final = 4  # before, what is usual is the reference's to say
_MEMORY_UNITS = 32


@dataclass(frozen=True, eq=False)
class Unit:
    """One finished unit.

    Attributes:
        contrasts: float64 [2, F], see ``yardstick``.
        means: float64 [F], distance from the reference mean in reference sd.
        spreads: float64 [F], logarithm of the sd, in reference sd.
        repeats: float64 [F], share of values that repeat the one before.
        windows: How many windows it is the sum of.
    """

    contrasts: Float64
    means: Float64
    spreads: Float64
    repeats: Float64
    windows: int


@dataclass(frozen=True, eq=False)
class Usual:
    """What a device's units were like before the newest ones, fading.

    It grows whatever the evidence says, unlike the baseline, which a lively wearer
    keeps from growing: it decides nothing, it names what was decided.

    Attributes:
        units: How many joined.
        means: float64 [F], mean of their standardised means.
        spreads: float64 [F], mean of the logarithms of their sd.
        repeats: float64 [F], mean of their shares of repeats.
    """

    units: int
    means: Float64
    spreads: Float64
    repeats: Float64

    @classmethod
    def empty(cls, features: int) -> "Usual":
        """Return the memory of a device without history."""
        zeros = np.zeros(features)
        return cls(0, zeros, zeros.copy(), zeros.copy())

    def join(self, unit: Unit) -> "Usual":
        """Return the memory with one more unit."""
        weight = max(1 / (self.units + 1), 1 / _MEMORY_UNITS)
        return Usual(
            self.units + 1,
            self.means + weight * (unit.means - self.means),
            self.spreads + weight * (unit.spreads - self.spreads),
            self.repeats + weight * (unit.repeats - self.repeats),
        )


@dataclass(frozen=True, eq=False)
class DeviceState:
    """The whole memory of one device; small and bounded.

    Attributes:
        open_statistics: Sum of the windows of the unfinished unit.
        open_windows: How many those are.
        units: Finished units.
        windows: Windows seen, the unfinished unit's included.
        baseline: The units that joined.
        waiting: The newest units, too young to join, oldest first.
        recent: The newest units, for the way back, oldest first.
        usual: The units before those.
        cusum: The evidence.
    """

    open_statistics: WindowStatistics
    open_windows: int
    units: int
    windows: int
    baseline: Baseline
    waiting: tuple[Unit, ...]
    recent: tuple[Unit, ...]
    usual: Usual
    cusum: Cusum

    @classmethod
    def start(cls, yardstick: Yardstick) -> "DeviceState":
        """Return the state of a device not heard of before."""
        features = len(yardstick.profile.features)
        return cls(
            open_statistics=WindowStatistics.empty(yardstick.profile),
            open_windows=0,
            units=0,
            windows=0,
            baseline=Baseline.empty(features),
            waiting=(),
            recent=(),
            usual=Usual.empty(features),
            cusum=Cusum.start(features),
        )


def observe(
    state: DeviceState,
    windows: Sequence[tuple[WindowStatistics, int]],
    yardstick: Yardstick,
    parameters: DriftParameters,
) -> DeviceState:
    """Return the state after some more windows, in their order of arrival.

    Args:
        state: The state so far.
        windows: Statistics under the yardstick's profile, each with the number of
            closed windows that it is the sum of.
        yardstick: The profile.
        parameters: The operating point.
    """
    layout, unit_rows = yardstick.profile.layout, yardstick.profile.unit_rows
    for statistics, closed in windows:
        state = replace(
            state,
            open_statistics=merge(state.open_statistics, statistics, layout),
            open_windows=state.open_windows + closed,
            windows=state.windows + closed,
        )
        if state.open_statistics.rows >= unit_rows:
            state = _finish_unit(state, yardstick, parameters)
    return state


def _finish_unit(
    state: DeviceState, yardstick: Yardstick, parameters: DriftParameters
) -> DeviceState:
    done = state.open_statistics
    layout = yardstick.profile.layout
    valid = done.valid(layout)
    unit = Unit(
        yardstick.contrasts(done.counts),
        yardstick.standardised_mean(done.mean, valid),
        yardstick.log_spread(done.variance(layout)),
        done.counts[layout.repeat] / max(done.rows, 1),
        state.open_windows,
    )
    level, variance = state.baseline.level(yardstick.within, yardstick.between)
    deviation = (unit.contrasts - level) / np.sqrt(yardstick.within + variance)
    # A feature that a unit never measured says nothing about drift: it is a fault.
    deviation = np.where(valid > 0, deviation, 0.0)
    cusum = advance(
        state.cusum,
        np.clip(deviation, -parameters.clip, parameters.clip),
        parameters.allowance * np.sqrt(variance / yardstick.within),
        parameters.delta,
        (unit.contrasts, unit.means, unit.windows),
    )
    baseline, waiting = state.baseline, (*state.waiting, unit)
    while len(waiting) > parameters.join_age_units:
        oldest, waiting = waiting[0], waiting[1:]
        if cusum.quiet(parameters.guard) and not is_broken(state, oldest, yardstick):
            baseline = baseline.join(oldest.contrasts, oldest.means)
    recent, usual = (*state.recent, unit), state.usual
    if len(recent) > parameters.clear_units:
        oldest, recent = recent[0], recent[1:]
        if not is_broken(state, oldest, yardstick):
            usual = usual.join(oldest)
    return replace(
        state,
        open_statistics=WindowStatistics.empty(yardstick.profile),
        open_windows=0,
        units=state.units + 1,
        baseline=baseline,
        waiting=waiting,
        recent=recent,
        usual=usual,
        cusum=cusum,
    )


def usual_repeats(state: DeviceState, yardstick: Yardstick) -> Float64:
    """Return the share of repeats that is usual, float64 [F]; NaN where not known."""
    own = state.usual
    return own.repeats if own.units >= LEAST_USUAL_UNITS else yardstick.repeats


def is_broken(state: DeviceState, unit: Unit, yardstick: Yardstick) -> bool:
    """Whether a unit shows a sensor that repeats itself as it never did."""
    usual = usual_repeats(state, yardstick)
    return find_repeats(unit.repeats, usual, yardstick.names) is not None
