# SPDX-License-Identifier: Apache-2.0
import copy
from dataclasses import replace

import numpy as np
import pytest

from bench.harness.drift_runs import FIRST_SLOT, Run, make_slot
from bench.harness.drift_scenarios import (
    BRANCH_SLOT,
    branch,
    device_and_cohort,
    found_kinds,
    nothing,
    start_run,
)
from bench.harness.fleet_simulation import (
    Effect,
    Fault,
    Fleet,
    Plan,
    Release,
    Silence,
)
from fleet.drift.fleetwide.codec import decode_fleet_state, encode_fleet_state
from fleet.drift.fleetwide.finding import Closing, Finding
from fleet.drift.fleetwide.rule import FleetRule

SMALL = Plan(seed=1, devices=40, features=2, has_season=False, rows=100)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base() -> Run:
    run = Run(Fleet(SMALL))
    run.advance(BRANCH_SLOT)
    return run


def go_on(base: Run, slots: int, **planned: object) -> Run:
    """Branch the run and let something happen."""
    run = copy.deepcopy(base)
    run.fleet.plan = replace(run.fleet.plan, **planned)  # type: ignore[arg-type]
    run.advance(slots)
    return run


def new_findings(run: Run, base: Run) -> list[tuple[str, str]]:
    return [
        (one.kind, one.subject)
        for one in run.outcomes[len(base.outcomes) :]
        if isinstance(one, Finding) and one.is_material
    ]


def test_two_quiet_days_are_quiet(base: Run) -> None:
    assert new_findings(base, Run(Fleet(SMALL))) == []


def test_a_device_that_comes_back_is_closed(base: Run) -> None:
    begin = BRANCH_SLOT + 5
    there = Effect(begin, (4,), (0,), shift=1.0)
    back = Effect(begin + 60, (4,), (0,), shift=-1.0)

    run = go_on(base, 300, effects=(there, back))

    assert new_findings(run, base) == [("device", "d00004")]
    closings = [one for one in run.outcomes if isinstance(one, Closing)]
    assert closings == [Closing("device", "d00004", "back at its baseline")]


@pytest.mark.parametrize("kind", ["missing", "stuck", "saturated", "outside"])
def test_a_broken_sensor_is_named_within_an_hour(base: Run, kind: str) -> None:
    fault = Fault(BRANCH_SLOT + 2, 7, 1, kind)  # type: ignore[arg-type]

    run = go_on(base, 20, faults=(fault,))

    (finding,) = [one for one in run.outcomes if isinstance(one, Finding)]
    assert (finding.kind, finding.subject) == ("sensor_fault", "d00007")
    assert kind in {move.channel for move in finding.moves}
    assert {move.feature for move in finding.moves} == {"f1"}
    assert all(0 < move.shift <= 1 for move in finding.moves)
    assert finding.slot - (FIRST_SLOT + BRANCH_SLOT + 2) <= 12


def test_missing_windows_and_outages_stop_nothing(base: Run) -> None:
    run = go_on(base, 60, gaps=0.5)

    assert new_findings(run, base) == []
    assert run.state.slot == FIRST_SLOT + BRANCH_SLOT + 59


def test_a_harmless_deploy_is_no_verdict(base: Run) -> None:
    release = Release(BRANCH_SLOT + 3, tuple(range(0, 40, 3)), "r9")

    assert new_findings(go_on(base, 40, releases=(release,)), base) == []


def test_a_state_goes_on_from_its_bytes_as_if_nothing_had_happened(base: Run) -> None:
    effect = Effect(BRANCH_SLOT + 2, (4,), (0,), shift=1.0)
    through = go_on(base, 40, effects=(effect,))
    stopped = go_on(base, 9, effects=(effect,))
    data = encode_fleet_state(stopped.state, [5, 3])

    state, pending = decode_fleet_state(data, 2)
    stopped.state = state
    stopped.rule = FleetRule(stopped.scale, state)
    stopped.advance(31)

    assert pending == [5, 3]
    assert stopped.outcomes == through.outcomes
    assert np.array_equal(stopped.state.evidence.log, through.state.evidence.log)
    assert encode_fleet_state(state, []) == encode_fleet_state(through.state, [])


def test_a_new_device_learns_while_the_others_are_judged(base: Run) -> None:
    run = copy.deepcopy(base)
    run.state.add_devices(["late"], {"late": {"hw": "h0"}})
    run.advance(30)

    assert run.rule.yardsticks.ready[0, :40].all()
    assert not run.rule.yardsticks.ready[0, 40]
    assert new_findings(run, base) == []


def test_a_tag_that_comes_later_makes_a_cohort_that_is_judged(base: Run) -> None:
    run = copy.deepcopy(base)
    moved = tuple(range(0, 40, 2))
    for place, tags in enumerate(run.fleet.tags):
        tags["line"] = "b" if place % 2 else "a"
    run.take_tags()
    run.fleet.plan = replace(
        run.fleet.plan, effects=(Effect(BRANCH_SLOT + 20, moved, (1,), shift=0.5),)
    )
    run.advance(60)

    assert new_findings(run, base) == [("cohort", "line=a")]


def test_fewer_than_eight_devices_are_judged_without_a_world() -> None:
    run = Run(Fleet(replace(SMALL, devices=6)))

    run.advance(30)

    assert run.outcomes == []
    assert np.isnan(run.state.season.recent).all()


def test_windows_of_ten_minutes_are_learnt_and_judged_alike() -> None:
    effect = Effect(310, (4,), (0,), shift=1.0)
    run = Run(Fleet(replace(SMALL, effects=(effect,))))
    for number in range(340):
        windows = run.fleet.next_windows()
        slot = make_slot(FIRST_SLOT + 2 * number, windows, run.fleet.releases)
        run.outcomes += run.rule.advance(replace(slot, span=2), run.kept)

    assert run.rule.yardsticks.ready[0].all()
    assert float(np.median(run.rule.yardsticks.windows.phi[0])) > 0.2
    (finding,) = [one for one in run.outcomes if isinstance(one, Finding)]
    assert (finding.kind, finding.subject) == ("device", "d00004")
    assert finding.change_slot == FIRST_SLOT + 2 * 310


def test_a_gap_over_the_end_of_half_a_day_does_not_stop_learning() -> None:
    run = Run(Fleet(SMALL))
    for number in range(330):
        windows = run.fleet.next_windows()
        if 140 <= number < 150 or 285 <= number < 290:
            continue
        slot = make_slot(FIRST_SLOT + number, windows, run.fleet.releases)
        run.outcomes += run.rule.advance(slot, run.kept)

    assert run.rule.yardsticks.ready[0].all()
    assert run.outcomes == []


def test_two_causes_at_once_are_both_named() -> None:
    base = start_run(Plan(seed=4, devices=120, features=2, has_season=False))
    run, event, _ = branch(base, device_and_cohort, 41)
    quiet, none, _ = branch(base, nothing, 42)

    assert found_kinds(run) == event.kinds
    assert found_kinds(quiet) == none.kinds


def test_devices_that_fall_silent_move_no_cohort() -> None:
    base = start_run(Plan(seed=602, devices=200, features=4, has_season=False))
    silent = tuple(range(0, 200, 2))
    silence = Silence(BRANCH_SLOT + 10, BRANCH_SLOT + 50, silent)

    run = go_on(base, 60, silences=(silence,))

    assert new_findings(run, base) == []
