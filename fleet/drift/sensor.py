# SPDX-License-Identifier: Apache-2.0
"""What no world does to a sensor: it repeats itself, is scaled, or is turned.

Owns two families of rules over units. Repeats are counted: a sensor whose values repeat
exactly as they never did is stuck or saturated. Of a three-axis sensor (a triad of the
profile) all axes scaled by one factor are a changed gain, and a mean vector turned by
half a turn about one axis, with the same energy, is a sensor mounted the other way. An
arm that is changed for the other mirrors one axis only. Pure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from edge_contract.binning import Float64

FaultName = Literal["stuck", "saturated", "gain", "turned"]
_STUCK, _SATURATED = 0.9, 0.1  # share of repeats
_USUAL = 0.02  # a feature that repeats more than this by nature is not judged
_LEAST_GAIN = math.log(1.4)
_ONE_FACTOR = 0.2  # distance of an axis's logarithm from the factor of all three
_LEAST_MEAN = 0.25  # share of the energy that the mean vector must have
_ONE_ENERGY = 0.3  # of the logarithm of the energies' ratio
_CLOSE, _FAR = 0.25, 0.75  # of the mean vector's length
_LEAST_FLIPPED = 0.25  # of it, for an axis whose sign is to count
_HALF_TURNS: Final = (
    np.array([1.0, -1.0, -1.0]),
    np.array([-1.0, 1.0, -1.0]),
    np.array([-1.0, -1.0, 1.0]),
)


@dataclass(frozen=True, slots=True)
class SensorFault:
    """A fault with its name.

    Attributes:
        name: Which.
        features: Whose.
        amount: Stuck, saturated: share of repeats. Gain: the factor. Turned: the place
            of the axis in the triad.
    """

    name: FaultName
    features: tuple[str, ...]
    amount: float


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and standard deviations in the sensor's own unit, float64 [F] each."""

    mean: Float64
    sd: Float64


def find_repeats(
    repeats: Float64, usual: Float64, names: Sequence[str]
) -> SensorFault | None:
    """Return the fault that counted repeats show.

    Args:
        repeats: float64 [F], share of a unit's values that repeat the one before.
        usual: float64 [F], the same of the history; NaN where it is not known.
        names: The features.

    >>> find_repeats(np.array([0.4, 0.0]), np.array([0.001, 0.0]), ("ax", "ay"))
    SensorFault(name='saturated', features=('ax',), amount=0.4)
    """
    odd = usual <= _USUAL  # not where it is not known
    kinds: tuple[tuple[FaultName, float], ...] = (
        ("stuck", _STUCK),
        ("saturated", _SATURATED),
    )
    for name, least in kinds:
        which = np.flatnonzero(odd & (repeats >= least))
        if which.size:
            features = tuple(names[one] for one in which.tolist())
            return SensorFault(name, features, float(repeats[which].max()))
    return None


def find_changed_triad(
    before: Moments,
    now: Moments,
    triads: Sequence[tuple[int, int, int]],
    names: Sequence[str],
) -> SensorFault | None:
    """Return the fault of a three-axis sensor that its moments show.

    Args:
        before: Of the device's own history.
        now: Since the change.
        triads: Feature indices of each three-axis sensor.
        names: The features.

    >>> was = Moments(np.array([-0.9, 0.4, 0.1]), np.array([0.5, 0.4, 0.6]))
    >>> half = Moments(was.mean / 2, was.sd / 2)
    >>> find_changed_triad(was, half, [(0, 1, 2)], ("ax", "ay", "az"))
    SensorFault(name='gain', features=('ax', 'ay', 'az'), amount=0.5)
    """
    for triad in triads:
        axes = list(triad)
        old = Moments(before.mean[axes], before.sd[axes])
        new = Moments(now.mean[axes], now.sd[axes])
        if min(old.sd.min(), new.sd.min()) <= 0:
            continue
        features = tuple(names[one] for one in axes)
        factor = _common_factor(old, new)
        if factor is not None:
            return SensorFault("gain", features, round(factor, 3))
        axis = _half_turn(old, new)
        if axis is not None:
            return SensorFault("turned", features, float(axis))
    return None


def _log_energy(old: Moments, new: Moments) -> float:
    energy = [float((one.mean**2 + one.sd**2).sum()) for one in (old, new)]
    return math.log(energy[1] / energy[0])


def _common_factor(old: Moments, new: Moments) -> float | None:
    logs = np.log(new.sd / old.sd)
    mean = float(logs.mean())
    same = np.abs(logs - mean).max() <= _ONE_FACTOR
    whole = abs(_log_energy(old, new) / 2 - mean) <= _ONE_FACTOR
    factor = math.exp(mean)
    # Whoever moves less has smaller deviations but the same mean (as of gravity), so
    # without a mean a gain cannot be told from calm.
    length = float(np.linalg.norm(old.mean))
    scaled = np.linalg.norm(new.mean - factor * old.mean) <= _CLOSE * factor * length
    told = length**2 >= _LEAST_MEAN * float((old.mean**2 + old.sd**2).sum())
    if same and whole and scaled and told and abs(mean) >= _LEAST_GAIN:
        return factor
    return None


def _half_turn(old: Moments, new: Moments) -> int | None:
    length = float(np.linalg.norm(old.mean))
    if abs(_log_energy(old, new)) > _ONE_ENERGY:
        return None
    if np.linalg.norm(new.mean - old.mean) < _FAR * length:
        return None
    for axis, turn in enumerate(_HALF_TURNS):
        flipped = np.abs(old.mean[turn < 0]).min()
        left = float(np.linalg.norm(new.mean - turn * old.mean))
        if flipped >= _LEAST_FLIPPED * length and left <= _CLOSE * length:
            return axis
    return None
