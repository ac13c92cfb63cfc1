# SPDX-License-Identifier: Apache-2.0
"""Three ways to bring a release to a fleet: the product's, and two that people use.

Owns the loops over discrete time. ``follow_planner`` calls the product's own planner,
gate, cohort comparison and hint with counts; nothing of them is rebuilt here.
``follow_errors`` stops above five percent of errors among all targets of a group and
goes on at nine in ten finished, by polls every five minutes; ``follow_clock`` looks at
nothing.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from bench.harness.rollout_world import HOUR, Bools, Update, World
from fleet.rollout.bounds import Sample, Share
from fleet.rollout.cohorts import MAX_COHORT
from fleet.rollout.gate import Evidence
from fleet.rollout.health import Cohort, Cohorts, Health, judge_cohorts
from fleet.rollout.model import Device, Phase, PhaseKind, Policy, Rollout, RolloutState
from fleet.rollout.planner import choose_canaries, plan_hint, step
from fleet.rollout.request import parse_phases

WORDS: Final = ("100", "1%", "10%", "50%", "all")
POLICY: Final = Policy(deadline_seconds=8 * 3600, soak_seconds=2 * 3600)
_STEP_SECONDS = 60.0
_LOOK_SECONDS = 1800.0
_SPREAD_LIMIT_SECONDS = 4 * 3600
_LIMIT = 96 * HOUR
_GROUPS = (0.0001, 0.01, 0.1, 0.5, 1.0)
_ERRORS, _FINISHED = 0.05, 0.9
_POLL_SECONDS = 300.0
_EVERY_SECONDS = 4 * HOUR


@dataclass(frozen=True, slots=True)
class Run:
    """How it ended.

    Attributes:
        state: ``completed``, or what stopped it.
        exposed: Devices that had begun with the release by then.
        seconds: When it ended.
        peak: Most requests a second.
    """

    state: str
    exposed: int
    seconds: float
    peak: float


@dataclass
class Fleet:
    """A world as the planner sees it; made once, for it is a million values."""

    world: World
    devices: tuple[Device, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.devices = tuple(
            Device(name, {}, 0 if online else None)
            for name, online in zip(
                self.world.names, self.world.is_online.tolist(), strict=True
            )
        )


def follow_planner(fleet: Fleet, update: Update) -> Run:
    """Roll out as the product does."""
    world, now = fleet.world, 0.0
    rollout = Rollout("r1", "default", "main", "m", 2, "0" * 64, "models/m-2.bundle",
                      world.salt, parse_phases(WORDS), POLICY)  # fmt: skip
    choose = partial(_choose, rollout, fleet)
    health: Health | None = None
    looked = -_LOOK_SECONDS
    while rollout.state is RolloutState.RUNNING and now < _LIMIT:
        tally = update.tally(now)
        if tally.succeeded and now - looked >= _LOOK_SECONDS:
            health, looked = _look(update, now) or health, now
        begun = len(rollout.reached)
        rollout = step(rollout, Evidence(tally, health), choose, int(now * 1e6))
        if len(rollout.reached) > begun:
            phase = rollout.reached[-1]
            hint = plan_hint([rollout], world.size, _SPREAD_LIMIT_SECONDS)
            update.tell(
                select(world, phase), now, hint.spread_seconds, named=bool(hint.told)
            )
        now += _STEP_SECONDS
    return Run(
        rollout.state.value, update.count_exposed(now), now, update.peak_a_second()
    )


def follow_errors(world: World, update: Update) -> Run:
    """Roll out by a rate of errors among targets, as group conditions do."""
    now = 0.0
    for share in _GROUPS:
        before = update.told.copy()
        chosen = world.place < np.uint64(min(share * 2.0**64, 2.0**64 - 2048))
        update.tell(chosen, now, _POLL_SECONDS, named=False)
        group = update.told & ~before
        total = max(int(group.sum()), 1)
        while now < _LIMIT:
            now += _STEP_SECONDS
            failed = int((update.failure[group] <= now).sum())
            good = int((update.success[group] <= now).sum())
            if failed / total > _ERRORS:
                return _end("paused", update, now)
            if good / total >= _FINISHED or good + failed == total:
                break
    return _end("completed", update, now)


def follow_clock(world: World, update: Update) -> Run:
    """Roll out by time alone."""
    now = 0.0
    for share in _GROUPS:
        chosen = world.place < np.uint64(min(share * 2.0**64, 2.0**64 - 2048))
        update.tell(chosen, now, _POLL_SECONDS, named=False)
        now += _EVERY_SECONDS
    return _end("completed", update, now)


def select(world: World, phase: Phase) -> Bools:
    """Return whom a phase concerns, for all devices at once."""
    if phase.kind is PhaseKind.CANARY:
        chosen = np.zeros(world.size, dtype=np.bool_)
        chosen[[int(name[1:]) for name in phase.devices]] = True
        return chosen
    if phase.kind is PhaseKind.PERCENT:
        # place * 100 < percent * 2**64, in integers that fit.
        found: Bools = world.place < np.uint64(-(-(phase.amount << 64) // 100))
        return found
    return np.ones(world.size, dtype=np.bool_)


def _choose(rollout: Rollout, fleet: Fleet, amount: int) -> tuple[str, ...]:
    return choose_canaries(rollout, amount, fleet.devices, 0)


def _look(update: Update, now: float) -> Health | None:
    """Compare the cohorts; None when nobody is left on the old release."""
    treated = update.pick(update.success <= now - _LOOK_SECONDS, MAX_COHORT)
    control = update.pick(~update.told & update.world.is_online, MAX_COHORT)
    if not len(control):
        return None
    world, change = update.world, update.release.confidence
    sides = [
        Cohort(
            len(side),
            _sample(world.confidence[side] + np.float32(shift)),
            _sample(world.latency[side]),
            Share(update.drifts_at(side, now), len(side)),
        )
        for side, shift in ((treated, change), (control, 0.0))
    ]
    return judge_cohorts(Cohorts(treated=sides[0], control=sides[1]), POLICY)


def _sample(values: np.ndarray) -> Sample:
    if not len(values):
        return Sample()
    spread = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    return Sample(len(values), float(values.mean()), spread)


def _end(state: str, update: Update, now: float) -> Run:
    # Its devices look every five minutes, whether there is something new or not.
    idle = update.world.size / _POLL_SECONDS
    return Run(state, update.count_exposed(now), now, update.peak_a_second() + idle)
