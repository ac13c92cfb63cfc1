# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from bench.drift_power import least_windows
from bench.harness.fleet_simulation import Effect, Fault, Fleet, Plan, Windows

PLAN = Plan(seed=3, devices=40, features=4)


def advance(plan: Plan, slots: int) -> list[Windows]:
    fleet = Fleet(plan)
    return [fleet.next_windows() for _ in range(slots)]


def test_the_bound_for_any_test_is_that_of_the_prototype() -> None:
    assert [least_windows(phi) for phi in (0.0, 0.3, 0.6)] == [7, 12, 22]


def test_a_seed_gives_one_fleet() -> None:
    first, second = advance(PLAN, 3)[-1], advance(PLAN, 3)[-1]

    assert np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.mean, second.mean)
    assert not np.array_equal(first.mean, advance(Plan(4, 40, 4), 3)[-1].mean)


def test_counts_add_up_and_moments_agree_with_bins() -> None:
    for windows in advance(PLAN, 5):
        assert np.array_equal(windows.counts.sum(axis=1), windows.rows)
        upper = windows.counts[:, 8:].sum(axis=1) / windows.rows
        correlation = np.corrcoef(windows.mean.ravel(), upper.ravel())[0, 1]
        assert correlation > 0.9


def test_moments_of_a_window_are_those_of_normal_rows() -> None:
    plan = Plan(seed=5, devices=200, features=1, rows=300, has_season=False)
    windows = advance(plan, 60)
    sampled = np.stack([one.variance[0] for one in windows])
    level = np.stack([one.mean[0] for one in windows])

    # Of 300 normal rows: a variance has a relative sd of sqrt(2 / 299).
    relative = sampled.std(axis=0) / sampled.mean(axis=0)
    assert float(np.median(relative)) == pytest.approx(np.sqrt(2 / 299), rel=0.1)
    assert float(sampled.mean()) == pytest.approx(1.0, abs=0.03)
    fleet = Fleet(plan)
    assert float(np.median(level.std(axis=0))) == pytest.approx(
        fleet.window_sd, rel=0.15
    )


def test_an_effect_moves_what_it_names_and_nothing_else() -> None:
    effect = Effect(2, (3,), (1,), shift=2.0)
    plain = advance(PLAN, 4)[-1]
    moved = advance(Plan(3, 40, 4, effects=(effect,)), 4)[-1]

    change = moved.mean - plain.mean
    assert change[1, 3] == pytest.approx(2.0, abs=0.3)
    assert np.abs(np.delete(change, 3, axis=1)).max() < 0.3


@pytest.mark.parametrize("kind", ["missing", "stuck", "saturated", "outside"])
def test_a_fault_shows_in_its_counter(kind: str) -> None:
    fault = Fault(1, 5, 2, kind)  # type: ignore[arg-type]
    windows = advance(Plan(3, 40, 4, faults=(fault,)), 2)[-1]
    rows = windows.rows[2, 5] + windows.missing[2, 5]

    shares = {
        "missing": windows.missing[2, 5] / rows,
        "stuck": windows.repeat[2, 5] / rows,
        "saturated": windows.repeat[2, 5] / rows,
        "outside": windows.outside[2, 5] / rows,
    }
    least = {"missing": 0.2, "stuck": 0.99, "saturated": 0.005, "outside": 0.3}
    assert shares[kind] >= least[kind]
    assert windows.counts[2, :, 5].sum() == windows.rows[2, 5]
