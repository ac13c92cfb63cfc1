# SPDX-License-Identifier: Apache-2.0
"""Where a rollout goes next, and whom it has reached.

Owns the transitions of rollouts and phases and the choice of canaries. Pure: the same
rollout, devices, observations and time give the same answer; see ``engine`` for who
calls it and ``desired`` for what the devices are told.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_contract.selection import parse_query
from fleet.rollout.gate import Decision, Evidence, Moment, judge, tally_observations
from fleet.rollout.health import Health
from fleet.rollout.model import (
    Device,
    DeviceOutcome,
    Observation,
    Phase,
    PhaseKind,
    PhaseState,
    Rollout,
    RolloutState,
)

ChooseCanaries = Callable[[int], tuple[str, ...]]
_FULL_PERCENT = 100
_UNKNOWN = Observation(DeviceOutcome.UNKNOWN)
_DEVICES_PER_SECOND = 10  # how fast a fleet is let loose on the file server
_STORM_SECONDS = 60
_RECENT_US = 15 * 60 * 1_000_000  # three heartbeats


def find_place(salt: str, device_id: str) -> int:
    """Return a device's place in a salted order, 0 to 2**64 - 1."""
    digest = hashlib.sha256((salt + device_id).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def selects(salt: str, device_id: str, percent: int) -> bool:
    """Whether a device belongs to the first ``percent`` of a salted order.

    Devices compute the same by themselves, so nobody needs a list of them.

    >>> [selects("s", "device-1", percent) for percent in (0, 100)]
    [False, True]
    """
    # In integers: place / 2**64 * 100 < percent, without rounding.
    return find_place(salt, device_id) * _FULL_PERCENT < percent << 64


def find_reached(rollout: Rollout, devices: Iterable[Device]) -> tuple[str, ...]:
    """Return the devices that the phases begun so far concern."""
    return find_concerned(rollout, rollout.reached, devices)


def find_concerned(
    rollout: Rollout, phases: Iterable[Phase], devices: Iterable[Device]
) -> tuple[str, ...]:
    """Return the devices that some phases of a rollout concern."""
    tests = [_make_test(phase, rollout.salt) for phase in phases]
    return tuple(
        device.id
        for device in find_fitting(rollout.where, devices)
        if any(concerns(device) for concerns in tests)
    )


def find_fitting(where: str, devices: Iterable[Device]) -> tuple[Device, ...]:
    """Return the devices that a query means; an empty one means all."""
    if not where:
        return tuple(devices)
    query = parse_query(where)
    return tuple(one for one in devices if query.matches(one.tags))


@dataclass(frozen=True, slots=True)
class Hint:
    """How the fleet hears of a new wish.

    Attributes:
        spread_seconds: Over which all devices of the fleet look for it.
        told: Devices that are told at once beside, because they go first.
    """

    spread_seconds: int
    told: tuple[str, ...] = ()


def plan_hint(
    rollouts: Sequence[Rollout], fleet_devices: int, limit_seconds: int
) -> Hint:
    """Return how to announce a new wish.

    Every device of the fleet looks, whether the wish concerns it or not: a million of
    them at once are a storm. So all spread over a time that grows with the fleet, but
    canaries of a large fleet are told by name. A phase's devices have at least half of
    its deadline left to act.

    Args:
        rollouts: Those under way; none after a roll-back or an abort.
        fleet_devices: How many look.
        limit_seconds: The longest spread.
    """
    spread = fleet_devices // _DEVICES_PER_SECOND
    phases = [phase for one in rollouts for phase in one.reached]
    is_narrow = bool(phases) and all(one.kind is PhaseKind.CANARY for one in phases)
    if is_narrow and spread < _STORM_SECONDS:
        return Hint(0)
    deadlines = [
        one.phases[one.current].specialise(one.policy).deadline_seconds
        for one in rollouts
        if one.current is not None
    ]
    spread = min(spread, limit_seconds, *(one // 2 for one in deadlines))
    told = {name for one in phases for name in one.devices} if is_narrow else set()
    return Hint(spread, tuple(sorted(told)))


def gather(
    rollout: Rollout,
    devices: Iterable[Device],
    observations: Mapping[str, Observation],
    health: Health | None,
    now_us: int,
) -> Evidence:
    """Return what the gate of a rollout's current phase looks at.

    Args:
        rollout: As it is stored.
        devices: All devices of its fleet that are not revoked or in the penalty box.
        observations: By device; one that is missing has not started.
        health: The comparison with the control cohort.
        now_us: The present time.
    """
    phase = rollout.phases[rollout.current or 0]
    tally = tally_observations(
        (
            (one, observations.get(one, _UNKNOWN))
            for one in find_reached(rollout, devices)
        ),
        phase.specialise(rollout.policy),
        now_us,
        rollout.forgiven_us,
    )
    return Evidence(tally, health)


def step(
    rollout: Rollout, evidence: Evidence, choose: ChooseCanaries, now_us: int
) -> Rollout:
    """Return the rollout after looking at its devices once.

    The evidence is counts: a fleet of a million devices is as fast as one of ten.

    Args:
        rollout: As it is stored.
        evidence: See ``gather``.
        choose: Names the devices of a phase that begins with so many.
        now_us: The present time.
    """
    number = rollout.current
    if rollout.state is not RolloutState.RUNNING or number is None:
        return rollout
    phase = rollout.phases[number]
    if phase.state is PhaseState.PENDING:
        return _begin(rollout, number, choose, now_us)
    verdict = judge(
        evidence,
        phase.specialise(rollout.policy),
        Moment(phase.started_us or 0, now_us, rollout.accepted, phase.promoted),
    )
    judged = replace(phase, gate=verdict.to_json())
    if verdict.decision is Decision.WAIT:
        return _with_phase(rollout, number, judged)
    if verdict.decision is not Decision.ADVANCE:
        is_halt = verdict.decision is Decision.HALT
        state = RolloutState.HALTED if is_halt else RolloutState.HELD
        stopped = replace(rollout, state=state, reason=verdict.words)
        return _with_phase(stopped, number, judged)
    passed = replace(judged, state=PhaseState.PASSED, ended_us=now_us)
    advanced = _with_phase(rollout, number, passed)
    if number + 1 == len(rollout.phases):
        return replace(advanced, state=RolloutState.COMPLETED, reason=verdict.words)
    return _begin(advanced, number + 1, choose, now_us)


def _begin(
    rollout: Rollout, number: int, choose: ChooseCanaries, now_us: int
) -> Rollout:
    phase = rollout.phases[number]
    chosen: tuple[str, ...] = ()
    if phase.kind is PhaseKind.CANARY:
        chosen = choose(phase.amount)
        if not chosen:
            return replace(rollout, reason="no device to begin with")
    begun = replace(phase, state=PhaseState.RUNNING, started_us=now_us, devices=chosen)
    return replace(_with_phase(rollout, number, begun), reason="")


def choose_canaries(
    rollout: Rollout, amount: int, devices: Iterable[Device], now_us: int
) -> tuple[str, ...]:
    """Choose the devices that go first: those heard of lately, in a salted order."""

    def order(device: Device) -> tuple[bool, bytes]:
        seen = device.last_seen_us
        is_silent = seen is None or now_us - seen > _RECENT_US
        digest = hashlib.sha256((rollout.salt + device.id).encode()).digest()
        return is_silent, digest

    fitting = find_fitting(rollout.where, devices)
    return tuple(sorted(one.id for one in sorted(fitting, key=order)[:amount]))


def _make_test(phase: Phase, salt: str) -> Callable[[Device], bool]:
    """Return what tells whether a phase concerns a device."""
    if phase.kind is PhaseKind.CANARY:
        named = frozenset(phase.devices)
        return lambda device: device.id in named
    if phase.kind is PhaseKind.PERCENT:
        return lambda device: selects(salt, device.id, phase.amount)
    if phase.kind is PhaseKind.QUERY:
        query = parse_query(phase.query)
        return lambda device: query.matches(device.tags)
    return lambda _device: True


def _with_phase(rollout: Rollout, number: int, phase: Phase) -> Rollout:
    phases = list(rollout.phases)
    phases[number] = phase
    return replace(rollout, phases=tuple(phases))
