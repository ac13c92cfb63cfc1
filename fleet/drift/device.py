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

import numpy as np

from edge_contract.binning import Float64
from edge_contract.window import WindowStatistics, merge
from fleet.drift.baseline import Baseline
from fleet.drift.cusum import Cusum, advance
from fleet.drift.parameters import DriftParameters
from fleet.drift.yardstick import Yardstick


@dataclass(frozen=True, eq=False)
class Unit:
    """One finished unit.

    Attributes:
        contrasts: float64 [2, F], see ``yardstick``.
        means: float64 [F], distance from the reference mean in reference sd.
        windows: How many windows it is the sum of.
    """

    contrasts: Float64
    means: Float64
    windows: int


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
        cusum: The evidence.
    """

    open_statistics: WindowStatistics
    open_windows: int
    units: int
    windows: int
    baseline: Baseline
    waiting: tuple[Unit, ...]
    recent: tuple[Unit, ...]
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
    valid = done.valid(yardstick.profile.layout)
    unit = Unit(
        yardstick.contrasts(done.counts),
        yardstick.standardised_mean(done.mean, valid),
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
        if cusum.quiet(parameters.guard):
            baseline = baseline.join(oldest.contrasts, oldest.means)
    return replace(
        state,
        open_statistics=WindowStatistics.empty(yardstick.profile),
        open_windows=0,
        units=state.units + 1,
        baseline=baseline,
        waiting=waiting,
        recent=(*state.recent, unit)[-parameters.clear_units :],
        cusum=cusum,
    )
