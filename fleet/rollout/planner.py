# SPDX-License-Identifier: Apache-2.0
"""Where a rollout goes next, and whom it has reached.

Owns the transitions of rollouts and phases and the choice of canaries. Pure: the same
rollout, devices, observations and time give the same answer; see ``engine`` for who
calls it and ``desired`` for what the devices are told.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fleet.rollout.gate import Decision, judge, tally_observations
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

_FULL_PERCENT = 100
_UNKNOWN = Observation(DeviceOutcome.UNKNOWN)
_RECENT_US = 15 * 60 * 1_000_000  # three heartbeats


def selects(salt: str, device_id: str, percent: int) -> bool:
    """Whether a device belongs to the first ``percent`` of a salted order.

    Devices compute the same by themselves, so nobody needs a list of them.

    >>> [selects("s", "device-1", percent) for percent in (0, 100)]
    [False, True]
    """
    digest = hashlib.sha256((salt + device_id).encode()).digest()
    place = int.from_bytes(digest[:8], "big")
    # In integers: place / 2**64 * 100 < percent, without rounding.
    return place * _FULL_PERCENT < percent << 64


def has_tags(device: Device, tags: Mapping[str, str]) -> bool:
    """Whether a device carries all of ``tags``."""
    return all(device.tags.get(name) == value for name, value in tags.items())


def find_reached(rollout: Rollout, devices: Iterable[Device]) -> tuple[str, ...]:
    """Return the devices that the phases begun so far concern."""
    phases = rollout.reached
    return tuple(
        device.id
        for device in devices
        if has_tags(device, rollout.tags)
        and any(_concerns(phase, rollout.salt, device.id) for phase in phases)
    )


def step(
    rollout: Rollout,
    devices: Iterable[Device],
    observations: Mapping[str, Observation],
    now_us: int,
) -> Rollout:
    """Return the rollout after looking at its devices once.

    Args:
        rollout: As it is stored.
        devices: All devices of its fleet that are not revoked.
        observations: By device; one that is missing has not started.
        now_us: The present time.
    """
    if rollout.state is not RolloutState.RUNNING:
        return rollout
    devices = tuple(devices)
    number = next(
        index
        for index, phase in enumerate(rollout.phases)
        if phase.state is not PhaseState.PASSED
    )
    phase = rollout.phases[number]
    if phase.state is PhaseState.PENDING:
        return _begin(rollout, number, devices, now_us)
    reached = find_reached(rollout, devices)
    tally = tally_observations(
        (observations.get(device, _UNKNOWN) for device in reached),
        rollout.policy,
        now_us,
    )
    verdict = judge(
        tally,
        rollout.policy,
        started_us=phase.started_us or 0,
        now_us=now_us,
        accepted=rollout.accepted,
    )
    judged = replace(phase, gate=verdict.to_json())
    if verdict.decision is Decision.WAIT:
        return _with_phase(rollout, number, judged)
    if verdict.decision is Decision.HOLD:
        held = replace(rollout, state=RolloutState.HELD, reason=verdict.words)
        return _with_phase(held, number, judged)
    passed = replace(judged, state=PhaseState.PASSED, ended_us=now_us)
    advanced = _with_phase(rollout, number, passed)
    if number + 1 == len(rollout.phases):
        return replace(advanced, state=RolloutState.COMPLETED, reason=verdict.words)
    return _begin(advanced, number + 1, devices, now_us)


def _begin(
    rollout: Rollout, number: int, devices: tuple[Device, ...], now_us: int
) -> Rollout:
    phase = rollout.phases[number]
    chosen: tuple[str, ...] = ()
    if phase.kind is PhaseKind.CANARY:
        chosen = choose_canaries(rollout, phase.amount, devices, now_us)
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

    fitting = [one for one in devices if has_tags(one, rollout.tags)]
    return tuple(sorted(one.id for one in sorted(fitting, key=order)[:amount]))


def _concerns(phase: Phase, salt: str, device_id: str) -> bool:
    if phase.kind is PhaseKind.CANARY:
        return device_id in phase.devices
    if phase.kind is PhaseKind.PERCENT:
        return selects(salt, device_id, phase.amount)
    return True


def _with_phase(rollout: Rollout, number: int, phase: Phase) -> Rollout:
    phases = list(rollout.phases)
    phases[number] = phase
    return replace(rollout, phases=tuple(phases))
