# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from fleet.drift.sensor import (
    Moments,
    SensorFault,
    find_changed_triad,
    find_repeats,
)

NAMES = ("ax", "ay", "az")
TRIADS = [(0, 1, 2)]
NEVER = np.zeros(3)
WORN = Moments(np.array([-0.7, 0.35, -0.1]), np.array([0.4, 0.3, 0.35]))


def judge(now: Moments, before: Moments = WORN) -> SensorFault | None:
    return find_changed_triad(before, now, TRIADS, NAMES)


def change(factor: float = 1.0, signs: tuple[int, int, int] = (1, 1, 1)) -> Moments:
    return Moments(WORN.mean * factor * np.array(signs), WORN.sd * factor)


@pytest.mark.parametrize(
    ("repeats", "found"),
    [
        ([1.0, 0.0, 1.0], SensorFault("stuck", ("ax", "az"), 1.0)),
        ([0.0, 0.3, 0.0], SensorFault("saturated", ("ay",), 0.3)),
        ([0.95, 0.3, 0.0], SensorFault("stuck", ("ax",), 0.95)),
        ([0.02, 0.05, 0.0], None),
    ],
)
def test_repeats_that_never_were_are_counted(
    repeats: list[float], found: SensorFault | None
) -> None:
    assert find_repeats(np.array(repeats), NEVER, NAMES) == found


def test_what_repeats_by_nature_or_is_not_known_is_not_judged() -> None:
    stuck = np.ones(3)

    assert find_repeats(stuck, np.array([0.5, 0.03, np.nan]), NAMES) is None


@pytest.mark.parametrize("factor", [0.5, 0.65, 2.0])
def test_all_axes_by_one_factor_are_a_gain(factor: float) -> None:
    found = judge(change(factor))

    assert found is not None
    assert (found.name, found.features) == ("gain", NAMES)
    assert found.amount == pytest.approx(factor, rel=1e-3)


def test_a_calm_wearer_is_no_gain() -> None:
    # Gravity stays, only the movement is less; and a gyroscope has no gravity.
    assert judge(Moments(WORN.mean, WORN.sd / 2)) is None
    spinning = Moments(np.full(3, 0.01), np.array([1.0, 2.8, 1.1]))
    calm = Moments(spinning.mean / 2, spinning.sd / 2)
    assert judge(calm, spinning) is None


@pytest.mark.parametrize(
    ("signs", "axis"), [((-1, -1, 1), 2), ((1, 1, 1), None), ((-1, 1, 1), None)]
)
def test_half_a_turn_flips_two_axes_and_a_changed_arm_one(
    signs: tuple[int, int, int], axis: int | None
) -> None:
    found = judge(change(signs=signs))

    if axis is None:
        assert found is None
    else:
        assert found == SensorFault("turned", NAMES, float(axis))


def test_an_axis_without_a_mean_has_no_sign_to_flip() -> None:
    # Mirrored in x, with nothing along z: half a turn about y would look the same.
    flat = Moments(np.array([-0.7, 0.35, -0.02]), WORN.sd)
    mirrored = Moments(np.array([0.7, 0.35, -0.02]), WORN.sd)

    assert judge(mirrored, flat) is None


def test_a_feature_without_spread_is_left_to_the_counters() -> None:
    assert judge(Moments(WORN.mean, np.array([0.0, 0.3, 0.3]))) is None
