# SPDX-License-Identifier: Apache-2.0
"""What can happen to a simulated fleet, and what the rule should say about it.

Owns the scenarios of the drift measurements, each drawn from a generator: sizes,
features, devices and groups differ from seed to seed.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np

from bench.harness.drift_runs import Run
from bench.harness.fleet_simulation import (
    Effect,
    Fault,
    FaultKind,
    Fleet,
    Plan,
    Release,
    Silence,
    devices_with,
    pick,
)
from fleet.drift.fleetwide.finding import Finding

HARMLESS_SLOT, BRANCH_SLOT, WATCHED_SLOTS = 500, 590, 120
_SHARE_TOUCHED, _SHARE_SCALE = 0.3, 0.3


@dataclass(frozen=True)
class Event:
    """What is planted.

    Attributes:
        kinds: The verdicts that are right.
        subjects: Devices or groups at fault, for attribution.
    """

    kinds: frozenset[str]
    subjects: frozenset[str] = frozenset()
    effects: tuple[Effect, ...] = ()
    faults: tuple[Fault, ...] = ()
    releases: tuple[Release, ...] = ()
    gaps: float = 0.0
    silences: tuple[Silence, ...] = ()


Scenario = Callable[[np.random.Generator, Fleet, int], Event]


def nothing(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Plan no event."""
    del random, fleet, slot
    return Event(frozenset())


def device(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Shift 2 % of the devices, three at least, by 2 to 4 window sd."""
    many = fleet.plan.devices
    moved = pick(random, max(3, many // 50), range(many))
    shift = _sign(random) * random.uniform(2, 4) * fleet.window_sd
    effect = Effect(slot, moved, _features(random, fleet), shift=shift)
    return Event(frozenset({"device"}), _names(moved), (effect,))


def fault(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Break one sensor in one of four ways."""
    broken = int(random.integers(fleet.plan.devices))
    kinds: tuple[FaultKind, ...] = get_args(FaultKind)
    kind = kinds[int(random.integers(len(kinds)))]
    one = Fault(slot, broken, _features(random, fleet)[0], kind)
    return Event(frozenset({"sensor_fault"}), _names((broken,)), faults=(one,))


def cohort(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Move all devices of one hardware, site or firmware by 0.3 to 0.6 sd."""
    tag = ("hw", "site", "fw")[int(random.integers(3))]
    values = sorted({tags[tag] for tags in fleet.tags})
    value = values[int(random.integers(len(values)))]
    moved = devices_with(fleet, tag, value)
    effect = _effect(random, fleet, slot, moved, (0.3, 0.6))
    return Event(frozenset({"cohort"}), frozenset({f"{tag}={value}"}), (effect,))


def majority(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Move a cohort of 60 % of the fleet."""
    many = fleet.plan.devices
    large = set(pick(random, round(0.6 * many), range(many)))
    for place, tags in enumerate(fleet.tags):
        tags["line"] = "a" if place in large else "b"
    effect = _effect(random, fleet, slot, tuple(sorted(large)), (0.3, 0.6))
    return Event(frozenset({"cohort"}), frozenset({"line=a"}), (effect,))


def world(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Move all devices by 0.1 to 0.5 sd."""
    every = tuple(range(fleet.plan.devices))
    shift = _sign(random) * random.uniform(0.1, 0.5)
    effect = Effect(slot, every, _features(random, fleet), shift=shift)
    return Event(frozenset({"world"}), frozenset({"world"}), (effect,))


def deploy(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Give 30 % of the devices a release that moves them by 0.2 to 0.6 sd."""
    many = fleet.plan.devices
    touched = pick(random, round(_SHARE_TOUCHED * many), range(many))
    return _deploy_to(random, fleet, slot, touched)


def deploy_to_all(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Give all devices a release that moves them by 0.2 to 0.6 sd."""
    return _deploy_to(random, fleet, slot, tuple(range(fleet.plan.devices)))


def device_and_cohort(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Plant two causes at once."""
    return _both(device(random, fleet, slot), cohort(random, fleet, slot))


def world_and_cohort(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Plant two causes at once, one inside the other, on features of their own."""
    first, second = world(random, fleet, slot), cohort(random, fleet, slot)
    return _both(first, _elsewhere(second, first, fleet))


def fault_and_deploy(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Break a sensor while a release moves a third of the fleet."""
    return _both(fault(random, fleet, slot), deploy(random, fleet, slot))


def world_with_gaps(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Move the world while one window in ten never comes."""
    return replace(world(random, fleet, slot), gaps=0.1)


def device_with_gaps(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Shift devices while one window in ten never comes."""
    return replace(device(random, fleet, slot), gaps=0.1)


def cohort_after_silence(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Move a cohort while nothing comes from the whole fleet for two hours."""
    every = tuple(range(fleet.plan.devices))
    silence = Silence(slot - 12, slot + 12, every)
    return replace(cohort(random, fleet, slot), silences=(silence,))


def half_silent(random: np.random.Generator, fleet: Fleet, slot: int) -> Event:
    """Silence half of the fleet for five hours: nothing has changed."""
    many = fleet.plan.devices
    some = pick(random, many // 2, range(many))
    return Event(frozenset(), silences=(Silence(slot, slot + 60, some),))


SCENARIOS: Final[dict[str, Scenario]] = {
    "none": nothing,
    "sensor_fault": fault,
    "device": device,
    "cohort": cohort,
    "world": world,
    "deploy": deploy,
}
HARD_SCENARIOS: Final[dict[str, Scenario]] = {
    "device and cohort at once": device_and_cohort,
    "world and cohort at once": world_and_cohort,
    "fault and deploy at once": fault_and_deploy,
    "a cohort of 60 %": majority,
    "a deploy to all": deploy_to_all,
    "world, 10 % of windows missing": world_with_gaps,
    "device, 10 % of windows missing": device_with_gaps,
    "cohort, the fleet silent for two hours": cohort_after_silence,
    "none, half the fleet silent for five hours": half_silent,
}


def start_run(plan: Plan) -> Run:
    """Run a fleet up to where scenarios branch, with a harmless deploy on the way."""
    random = np.random.default_rng([plan.seed, 1])
    many = plan.devices
    touched = pick(random, round(_SHARE_TOUCHED * many), range(many))
    release = Release(HARMLESS_SLOT, touched, "r2")
    run = Run(Fleet(replace(plan, releases=(release,))))
    run.advance(BRANCH_SLOT)
    return run


def branch(base: Run, scenario: Scenario, seed: int) -> tuple[Run, Event, int]:
    """Let a scenario happen; return the run, what was planted, and its slot."""
    run = copy.deepcopy(base)
    random = np.random.default_rng([seed, 2])
    slot = BRANCH_SLOT + int(random.integers(12, 30))
    event = scenario(random, run.fleet, slot)
    plan = run.fleet.plan
    run.fleet.plan = replace(
        plan,
        effects=event.effects,
        faults=event.faults,
        releases=plan.releases + event.releases,
        gaps=event.gaps,
        silences=event.silences,
    )
    run.take_tags()
    run.fleet.reseed(seed)
    run.advance(WATCHED_SLOTS)
    return run, event, slot


def found_kinds(run: Run) -> frozenset[str]:
    """Return the kinds of all material verdicts of a run."""
    return frozenset(
        one.kind for one in run.outcomes if isinstance(one, Finding) and one.is_material
    )


def _both(first: Event, second: Event) -> Event:
    return Event(
        first.kinds | second.kinds,
        first.subjects | second.subjects,
        first.effects + second.effects,
        first.faults + second.faults,
        first.releases + second.releases,
    )


def _elsewhere(event: Event, other: Event, fleet: Fleet) -> Event:
    """Move an event to features that the other one does not touch."""
    taken = {feature for one in other.effects for feature in one.features}
    free = tuple(one for one in range(fleet.plan.features) if one not in taken)
    effects = tuple(
        replace(one, features=free[: len(one.features)]) for one in event.effects
    )
    return replace(event, effects=effects)


def _deploy_to(
    random: np.random.Generator, fleet: Fleet, slot: int, touched: tuple[int, ...]
) -> Event:
    effect = _effect(random, fleet, slot, touched, (0.2, 0.6))
    release = Release(slot, touched, "r3")
    return Event(
        frozenset({"deploy"}),
        frozenset({"release=r3"}),
        (effect,),
        releases=(release,),
    )


def _effect(
    random: np.random.Generator,
    fleet: Fleet,
    slot: int,
    devices: tuple[int, ...],
    sizes: tuple[float, float],
) -> Effect:
    """Draw a shift, or in 30 % of the cases a change of scale."""
    size = _sign(random) * random.uniform(*sizes)
    features = _features(random, fleet)
    if random.random() < _SHARE_SCALE:
        return Effect(slot, devices, features, log_scale=0.7 * size)
    return Effect(slot, devices, features, shift=size)


def _features(random: np.random.Generator, fleet: Fleet) -> tuple[int, ...]:
    return pick(random, int(random.integers(1, 3)), range(fleet.plan.features))


def _sign(random: np.random.Generator) -> float:
    return float(random.choice([-1, 1]))


def _names(devices: tuple[int, ...]) -> frozenset[str]:
    return frozenset(f"d{one:05}" for one in devices)
