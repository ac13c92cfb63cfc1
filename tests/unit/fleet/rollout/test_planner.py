# SPDX-License-Identifier: Apache-2.0
"""Rollouts under every sequence of outcomes: who is told what, and when."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.rollout import planner
from fleet.rollout.desired import build_rules, find_rule
from fleet.rollout.errors import RolloutRequestError
from fleet.rollout.model import (
    Device,
    DeviceOutcome,
    Observation,
    Phase,
    PhaseKind,
    PhaseState,
    Policy,
    Rollout,
    RolloutState,
)
from fleet.rollout.planner import (
    choose_canaries,
    find_reached,
    gather,
    plan_hint,
    selects,
)
from fleet.rollout.request import parse_phases

SECOND = 1_000_000
TEXT = "a small fleet"


def make_rollout(
    number: int,
    phases: Sequence[str] = ("1",),
    *,
    where: str = "",
    state: RolloutState = RolloutState.RUNNING,
    accepted: str | None = TEXT,
) -> Rollout:
    return Rollout(
        id=f"r{number}",
        fleet="default",
        slot="main",
        model="watch",
        release_counter=number,
        digest=f"{number:064x}",
        target_path=f"models/watch-{number}.bundle",
        salt=f"salt-{number}",
        phases=parse_phases(phases),
        policy=Policy(deadline_seconds=60),
        where=where,
        accepted=accepted,
        state=state,
        created_us=number,
    )


def make_devices(count: int) -> tuple[Device, ...]:
    return tuple(
        Device(f"d{number}", {"site": "north" if number % 2 else "south"}, SECOND)
        for number in range(count)
    )


def step(
    rollout: Rollout,
    devices: Sequence[Device],
    observations: Mapping[str, Observation],
    now_us: int,
) -> Rollout:
    """One turn, as the engine takes it."""
    evidence = gather(rollout, devices, observations, None, now_us)
    return planner.step(
        rollout,
        evidence,
        lambda amount: choose_canaries(rollout, amount, devices, now_us),
        now_us,
    )


def succeed(devices: Sequence[str]) -> dict[str, Observation]:
    return {one: Observation(DeviceOutcome.SUCCEEDED, SECOND) for one in devices}


def told(rollouts: Sequence[Rollout], device: Device) -> str | None:
    rule = find_rule(build_rules(rollouts, [], {}), device)
    return None if rule is None else str(rule["rollout"])


def test_canary_then_all() -> None:
    devices = make_devices(6)
    old = make_rollout(1, state=RolloutState.COMPLETED)
    begun = step(make_rollout(2), devices, {}, SECOND)
    (canary,) = begun.phases[0].devices

    assert [told([begun, old], one) for one in devices] == [
        "r2" if one.id == canary else "r1" for one in devices
    ]
    waiting = step(begun, devices, {}, 2 * SECOND)
    assert waiting.phases[0].gate is not None
    assert waiting.phases[0].gate["decision"] == "wait"

    wide = step(begun, devices, succeed([canary]), 2 * SECOND)
    assert [phase.state for phase in wide.phases] == [
        PhaseState.PASSED,
        PhaseState.RUNNING,
    ]
    assert {told([wide, old], one) for one in devices} == {"r2"}

    done = step(wide, devices, succeed([one.id for one in devices]), 3 * SECOND)
    assert done.state is RolloutState.COMPLETED
    assert {told([done, old], one) for one in devices} == {"r2"}


def test_one_failure_holds_a_tiny_fleet_and_abort_returns_to_the_old_release() -> None:
    devices = make_devices(6)
    old = make_rollout(1, state=RolloutState.COMPLETED)
    begun = step(make_rollout(2), devices, {}, SECOND)
    failed = {begun.phases[0].devices[0]: Observation(DeviceOutcome.FAILED, SECOND)}

    held = step(begun, devices, failed, 2 * SECOND)
    aborted = replace(held, state=RolloutState.ABORTED)

    assert held.state is RolloutState.HELD
    assert "1 of 1 devices that started failed" in held.reason
    assert step(held, devices, {}, 3 * SECOND) == held
    assert {told([aborted, old], one) for one in devices} == {"r1"}


def test_insufficient_evidence_holds_unless_accepted() -> None:
    devices = make_devices(6)
    begun = step(make_rollout(2, accepted=None), devices, {}, SECOND)
    fine = succeed(begun.phases[0].devices)

    held = step(begun, devices, fine, 2 * SECOND)
    resumed = replace(held, state=RolloutState.RUNNING, accepted=TEXT)
    passed = step(resumed, devices, fine, 3 * SECOND)

    assert held.state is RolloutState.HELD
    assert held.reason.startswith("insufficient evidence: 1 devices")
    assert passed.phases[0].state is PhaseState.PASSED
    assert passed.phases[0].gate is not None
    assert passed.phases[0].gate["words"].endswith(f"accepted: {TEXT}")


def test_a_halt_lets_nobody_else_begin() -> None:
    devices = make_devices(200)
    old = make_rollout(1, state=RolloutState.COMPLETED)
    begun = step(make_rollout(2, ["50%"]), devices, {}, SECOND)
    reached = find_reached(begun, devices)
    started = {one: Observation(DeviceOutcome.STARTED, SECOND) for one in reached[:7]}
    paused = replace(begun, state=RolloutState.PAUSED)

    rules = build_rules([paused, old], devices, {"r2": started})

    assert 70 < len(reached) < 130
    assert {
        one.id for one in devices if (find_rule(rules, one) or {})["rollout"] == "r2"
    } == set(reached[:7])


def test_tags_confine_a_rollout_and_keep_confining_it_when_completed() -> None:
    devices = make_devices(6)
    base = make_rollout(1, state=RolloutState.COMPLETED)
    north = make_rollout(2, where="site=north", state=RolloutState.COMPLETED)
    begun = step(make_rollout(3, where="site=south"), devices, {}, SECOND)
    (canary,) = begun.phases[0].devices
    expected = {"d0": "r1", "d1": "r2", "d2": "r1", "d3": "r2", "d4": "r1", "d5": "r2"}
    expected[canary] = "r3"

    assert int(canary[1:]) % 2 == 0
    assert {one.id: told([begun, north, base], one) for one in devices} == expected


def test_canaries_are_devices_heard_of_lately() -> None:
    hour = 3600 * SECOND
    devices = (
        Device("never", {}, None),
        Device("long-ago", {}, 0),
        *(Device(f"d{number}", {}, hour) for number in range(3)),
    )

    chosen = choose_canaries(make_rollout(1), 3, devices, hour)
    more = choose_canaries(make_rollout(1), 9, devices, hour)

    assert chosen == ("d0", "d1", "d2")
    assert len(more) == 5


def test_a_fleet_without_devices_waits() -> None:
    waiting = step(make_rollout(1), (), {}, SECOND)

    assert waiting.phases[0].state is PhaseState.PENDING
    assert waiting.reason == "no device to begin with"
    assert build_rules([waiting], (), {}) == []


@given(st.text(min_size=1, max_size=8), st.text(max_size=20), st.integers(0, 100))
def test_selection_is_that_of_the_contract(
    salt: str, device: str, percent: int
) -> None:
    digest = hashlib.sha256(salt.encode() + device.encode()).digest()
    place = Fraction(int.from_bytes(digest[:8], "big"), 2**64) * 100

    assert selects(salt, device, percent) == (place < percent)
    assert not selects(salt, device, 0)
    assert selects(salt, device, 100)


OUTCOMES = st.sampled_from(list(DeviceOutcome))
PHASES = st.sampled_from(
    [["1"], ["2", "10%"], ["10%", "50%"], ["all"], ["1", "3", "25%", "all"]]
)


@settings(max_examples=150, deadline=None)
@given(PHASES, st.integers(1, 12), st.data())
def test_devices_move_forward_only_and_in_the_order_of_the_rules(
    words: list[str], count: int, data: st.DataObject
) -> None:
    devices = make_devices(count)
    old = make_rollout(1, state=RolloutState.COMPLETED)
    rollout = make_rollout(2, words)
    reached: set[str] = set()
    for turn in range(1, 9):
        seen = {
            one.id: Observation(data.draw(OUTCOMES), turn * SECOND) for one in devices
        }
        before = rollout
        rollout = step(rollout, devices, seen, turn * 20 * SECOND)
        states = [phase.state for phase in rollout.phases]

        # Passed phases come first, at most one runs, the rest has not begun.
        order = list(PhaseState)[::-1]
        assert states == sorted(states, key=order.index)
        assert states.count(PhaseState.RUNNING) <= 1
        assert (rollout.state is RolloutState.COMPLETED) == (
            states == [PhaseState.PASSED] * len(states)
        )
        now_reached = set(find_reached(rollout, devices))
        assert reached <= now_reached
        if before.state is not RolloutState.RUNNING:
            assert rollout == before
        reached = now_reached

        # A device follows the new release if and only if it was reached.
        rules = build_rules([rollout, old], devices, {rollout.id: seen})
        for device in devices:
            rule = find_rule(rules, device)
            assert rule is not None
            is_stopped = rollout.state is RolloutState.HELD and any(
                phase.kind is not PhaseKind.CANARY for phase in rollout.reached
            )
            has_started = seen[device.id].outcome is not DeviceOutcome.UNKNOWN
            follows = device.id in reached and (has_started or not is_stopped)
            assert rule["rollout"] == ("r2" if follows else "r1")
            assert rule["release_counter"] == (2 if follows else 1)


@pytest.mark.parametrize(
    "words",
    [
        ["0"],
        ["x"],
        ["5%", "1"],
        ["10%", "10%"],
        ["all", "1"],
        ["-1"],
        ["1.5"],
        ["1001"],
        ["site=north", "site=north"],
        ["site="],
        ["1/soak=1"],
        ["1/sample=1h"],
        ["1/often=1h"],
        ["site=a/b"],
    ],
)
def test_phases_that_make_no_sense_are_refused(words: list[str]) -> None:
    with pytest.raises(RolloutRequestError):
        parse_phases(words)


def test_a_phase_may_be_a_query_and_have_its_own_figures() -> None:
    devices = make_devices(40)
    phases = parse_phases(
        ["2/sample=2/soak=0s", "site=south/deadline=2h/soak=1d", "all"]
    )
    old = make_rollout(1, state=RolloutState.COMPLETED)
    rollout = replace(make_rollout(2), phases=phases)
    begun = step(rollout, devices, {}, SECOND)
    south = step(begun, devices, succeed(begun.phases[0].devices), 2 * SECOND)

    assert [phase.kind.value for phase in phases] == ["canary", "query", "all"]
    assert (phases[1].deadline_seconds, phases[1].soak_seconds) == (7200, 86400)
    policy = phases[1].specialise(Policy(sample=3))
    assert (policy.sample, policy.deadline_seconds) == (3, 7200)
    told_by_south = {one.id for one in devices if told([south, old], one) == "r2"}
    assert told_by_south == {
        one.id for one in devices if one.tags["site"] == "south"
    } | set(begun.phases[0].devices)
    assert find_reached(south, devices) == tuple(
        one.id for one in devices if one.id in told_by_south
    )


def test_boxed_devices_are_left_out_of_the_rules() -> None:
    devices = make_devices(6)
    old = make_rollout(1, state=RolloutState.COMPLETED)
    new = make_rollout(2, state=RolloutState.COMPLETED)
    rules = build_rules([new, old], devices, {}, boxed={new.digest: {"d3"}})

    assert [(find_rule(rules, one) or {})["rollout"] for one in devices] == [
        "r2", "r2", "r2", "r1", "r2", "r2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "fleet", "expected"),
    [
        (["3"], 500, (0, 0)),
        # A million must not look at once for the sake of three.
        (["3"], 1_000_000, (1800, 3)),
        (["10%"], 500, (50, 0)),
        (["10%"], 100_000, (1800, 0)),  # half of the deadline is left to act
        (["10%/deadline=8h"], 100_000, (10_000, 0)),
        (["10%/deadline=90d"], 1_000_000, (14_400, 0)),
    ],
)
def test_a_hint_is_no_storm(
    words: list[str], fleet: int, expected: tuple[int, int]
) -> None:
    rollout = replace(make_rollout(2, words), policy=Policy(deadline_seconds=3600))
    begun = step(rollout, make_devices(5), {}, SECOND)

    hint = plan_hint([begun], fleet, 14_400)

    assert (hint.spread_seconds, len(hint.told)) == expected


def test_going_back_is_spread_as_well() -> None:
    assert plan_hint([], 50_000, 14_400).spread_seconds == 5000


def test_the_policy_for_the_devices_travels_with_the_rule() -> None:
    device: dict[str, object] = {"urgent": True, "metered": "deltas"}
    rollout = replace(
        make_rollout(1, state=RolloutState.COMPLETED), policy=Policy(device=device)
    )

    assert build_rules([rollout], (), {})[0]["policy"] == device


def test_phases_end_with_all() -> None:
    assert parse_phases(["5", "10%"]) == (
        Phase(PhaseKind.CANARY, 5),
        Phase(PhaseKind.PERCENT, 10),
        Phase(PhaseKind.ALL),
    )
    assert parse_phases(["100%"]) == (Phase(PhaseKind.ALL),)
