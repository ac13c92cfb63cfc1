# SPDX-License-Identifier: Apache-2.0
"""From evidence to verdicts, over all devices of a fleet at once.

Owns the decision: e-BH over devices x features, then materiality (a shift too small to
matter is no verdict, however certain), and the way back. Pure; words are in ``words``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_contract.binning import Float64
from fleet.drift.cusum import PARTS
from fleet.drift.device import (
    LEAST_USUAL_UNITS,
    DeviceState,
    Unit,
    usual_repeats,
)
from fleet.drift.ebh import rejection_threshold
from fleet.drift.parameters import DriftParameters
from fleet.drift.sensor import SensorFault, find_changed_triad, find_repeats
from fleet.drift.yardstick import CHANNELS, Yardstick


@dataclass(frozen=True, slots=True)
class MovedFeature:
    """One feature that moved.

    Attributes:
        name: The feature.
        channel: ``location`` or ``scale``; of a counted fault its name.
        shift: Location: the mean's shift in reference sd. Scale: the logarithm of
            the ratio of standard deviations, now to baseline. Fault: share of values.
        e_value: The evidence.
        windows: Windows since the estimated change.
    """

    name: str
    channel: str
    shift: float
    e_value: float
    windows: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A device that has drifted.

    Attributes:
        features: What moved, the largest first; never empty.
        provisional: The device has little history of its own, so it was compared with
            the bundle's reference more than with itself.
        delay_windows: Windows from the estimated change to the decision.
        streams: Devices x features that were tested together.
        fault: What the sensor does that no change of the world explains, or None.
    """

    features: tuple[MovedFeature, ...]
    provisional: bool
    delay_windows: int
    streams: int
    fault: SensorFault | None = None


_NAMING_UNITS = 4
_RUNNING, _PAIR = 2, 2
# A feature that stopped moving has no spread at all; its logarithm must stay finite.
_LEAST_SPREAD = 1e-3

Stream = tuple[DeviceState, Yardstick]


def find_drift(
    pool: Mapping[str, Stream], parameters: DriftParameters
) -> dict[str, Finding]:
    """Return the devices that have drifted.

    Args:
        pool: The state of every live device that has no open verdict. Judged devices
            must stay out: their evidence would lower everybody's threshold.
        parameters: The operating point.
    """
    e_values = [state.cusum.e_values() for state, _ in pool.values()]
    if not e_values:
        return {}
    streams = np.concatenate(e_values)
    threshold = rejection_threshold(streams, parameters.alpha)
    findings: dict[str, Finding] = {}
    for device, (state, yardstick) in pool.items():
        moved = _moved_features(state, yardstick, parameters, threshold)
        fault = _counted_fault(state, yardstick)
        if fault is None:
            fault = _changed_triad(state, yardstick, is_moved=bool(moved))
        if moved or fault is not None:
            moved = moved if fault is None else _fault_features(state, fault)
            findings[device] = Finding(
                features=moved,
                provisional=state.baseline.units < parameters.own_history_units,
                delay_windows=max(one.windows for one in moved),
                streams=len(streams),
                fault=fault,
            )
    return findings


def name_fault(
    state: DeviceState, yardstick: Yardstick, streams: int, units_ago: int
) -> Finding | None:
    """Return what a device under a verdict turns out to be, None while it has no name.

    A triad is often known only a unit after the verdict, and no more when what is usual
    becomes what is new.

    Args:
        state: The device's memory.
        yardstick: The profile.
        streams: Those of the verdict.
        units_ago: Units since the verdict.
    """
    fault = _counted_fault(state, yardstick)
    if fault is None and units_ago <= _NAMING_UNITS:
        fault = _changed_triad(state, yardstick, is_moved=True)
    if fault is None:
        return None
    moved = _fault_features(state, fault)
    return Finding(
        features=moved,
        provisional=False,
        delay_windows=moved[0].windows,
        streams=streams,
        fault=fault,
    )


def _fault_features(state: DeviceState, fault: SensorFault) -> tuple[MovedFeature, ...]:
    windows = sum(one.windows for one in state.recent[-_RUNNING:])
    return tuple(
        MovedFeature(name, fault.name, fault.amount, 0.0, windows)
        for name in fault.features
    )


def _counted_fault(state: DeviceState, yardstick: Yardstick) -> SensorFault | None:
    """Return the fault that counters show in two units running.

    The first may be half of before: what is stuck would seem to be saturated.
    """
    if len(state.recent) < _RUNNING:
        return None
    usual = usual_repeats(state, yardstick)
    before, newest = (
        find_repeats(one.repeats, usual, yardstick.names)
        for one in state.recent[-_RUNNING:]
    )
    return newest if before is not None else None


def _changed_triad(
    state: DeviceState, yardstick: Yardstick, *, is_moved: bool
) -> SensorFault | None:
    """Return the fault that a triad's moments show, against the device's own history.

    Of a device that has moved, the newest unit lies behind the change for certain, the
    one before perhaps. Of any other, two pairs of units running must show the same.
    """
    usual = state.usual
    if usual.units < LEAST_USUAL_UNITS:
        return None
    before = yardstick.moments(usual.means, usual.spreads)

    def judge(units: Sequence[Unit]) -> SensorFault | None:
        now = yardstick.moments(
            np.mean([one.means for one in units], axis=0),
            np.mean([one.spreads for one in units], axis=0),
        )
        return find_changed_triad(
            before, now, yardstick.profile.triads, yardstick.names
        )

    if is_moved:
        return judge(state.recent[-1:]) or judge(state.recent[-2:])
    if len(state.recent) < 2 * _PAIR:
        return None
    first, last = judge(state.recent[-2 * _PAIR : -_PAIR]), judge(state.recent[-_PAIR:])
    same = first is not None and last is not None and first.name == last.name
    return judge(state.recent[-2 * _PAIR :]) if same else None


def is_back(
    state: DeviceState, yardstick: Yardstick, parameters: DriftParameters
) -> bool:
    """Whether a judged device has returned to its baseline.

    True when the last ``clear_units`` units together lie inside half the gates.
    """
    if len(state.recent) < parameters.clear_units:
        return False
    if _counted_fault(state, yardstick) is not None:
        return False
    shift = _shifts(
        np.mean([one.contrasts for one in state.recent], axis=0),
        np.mean([one.means for one in state.recent], axis=0),
        state,
        yardstick,
    )
    return bool((np.abs(shift) < gates(yardstick, parameters) / 2).all())


def gates(yardstick: Yardstick, parameters: DriftParameters) -> Float64:
    """Return the smallest material shift, float64 [2, F]: location, scale."""
    least = np.array([[parameters.location_gate], [parameters.scale_gate]])
    smallest: Float64 = np.maximum(least, np.sqrt(yardstick.between))
    return smallest


def current_shifts(state: DeviceState, yardstick: Yardstick) -> Float64:
    """Return how far each feature lies from the baseline now, float64 [2, F].

    It pools the newest units, whatever the evidence; zeros before the first unit.
    """
    if not state.recent:
        return np.zeros_like(yardstick.within)
    return _shifts(
        np.mean([one.contrasts for one in state.recent], axis=0),
        np.mean([one.means for one in state.recent], axis=0),
        state,
        yardstick,
    )


def _shifts(
    contrasts: Float64, means: Float64, state: DeviceState, yardstick: Yardstick
) -> Float64:
    level, _ = state.baseline.level(yardstick.within, yardstick.between)
    mean_level = state.baseline.mean_level(yardstick.within, yardstick.between)
    spread = np.maximum(np.stack((contrasts[1], level[1])) + 1, _LEAST_SPREAD)
    return np.stack((means - mean_level, np.log(spread[0] / spread[1]) / 2))


def _moved_features(
    state: DeviceState,
    yardstick: Yardstick,
    parameters: DriftParameters,
    threshold: float,
) -> tuple[MovedFeature, ...]:
    """Return what moved for certain and materially.

    A side's own part of the feature's e-value must pass the threshold: a lasting small
    shift must not lend its certainty to one large unit of the other channel.
    """
    smallest = gates(yardstick, parameters)
    cusum, found = state.cusum, []
    parts = np.exp(cusum.evidence) / PARTS
    for side, channel, feature in np.argwhere(parts >= threshold):
        units = cusum.units[side, channel, feature]
        shift = _shifts(
            cusum.contrasts[side] / units,
            cusum.means[side, channel] / units,
            state,
            yardstick,
        )[channel, feature]
        if abs(shift) >= smallest[channel, feature]:
            found.append(
                MovedFeature(
                    yardstick.profile.features[feature].name,
                    CHANNELS[channel],
                    float(shift),
                    float(parts[side, channel, feature]),
                    int(cusum.windows[side, channel, feature]),
                )
            )
    return tuple(sorted(found, key=lambda one: -abs(one.shift)))
