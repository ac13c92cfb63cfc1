# SPDX-License-Identifier: Apache-2.0
"""What a rollout is: values, without behaviour.

Owns the states and the shape of phases, policies and rollouts. ``planner`` moves them
on, ``gate`` judges them, ``records`` keeps them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class RolloutState(StrEnum):
    """Where a rollout stands as a whole."""

    DRAFT = "draft"  # not started: decides nothing yet
    RUNNING = "running"
    PAUSED = "paused"  # by a person
    HELD = "held"  # by a gate
    HALTED = "halted"  # by a broken invariant or a control cohort that does better
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"

    @property
    def is_active(self) -> bool:
        """Whether the rollout is under way: it decides what some devices run."""
        return self in _ACTIVE


_ACTIVE = frozenset(
    {
        RolloutState.RUNNING,
        RolloutState.PAUSED,
        RolloutState.HELD,
        RolloutState.HALTED,
    }
)


class PhaseKind(StrEnum):
    """How a phase chooses its devices."""

    CANARY = "canary"  # a number of devices, named one by one
    QUERY = "query"  # those whose tags fit
    PERCENT = "percent"  # a share, which the devices compute by themselves
    ALL = "all"


class PhaseState(StrEnum):
    """Where a phase stands."""

    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"


class DeviceOutcome(StrEnum):
    """What became of one device in a rollout."""

    UNKNOWN = "unknown"  # never started; says nothing about the release
    ALREADY = "already"  # served the release before; says nothing either
    STARTED = "started"
    SUCCEEDED = "succeeded"  # committed and serving
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a gate asks for, and what the devices are told.

    Attributes:
        failure_percent: The true share of failures must be shown to be below this.
        deadline_seconds: A device that started must have committed by then.
        soak_seconds: How long a phase is watched after its last device committed.
        sample: The least number of devices that a phase is judged on.
        on_halt: ``stay`` or ``roll-back``.
        confidence_points: Mean confidence may be lower than in the control cohort by
            less than this, in points of a hundred.
        latency_percent: The 95th percentile of latency may be higher by less.
        drift_points: The share of devices with drift may be higher by less, in points.
        device: The rule's ``policy`` (docs/spec/updates.md), for the devices.
    """

    failure_percent: int = 5
    deadline_seconds: int = 3600
    soak_seconds: int = 0
    sample: int = 1
    on_halt: str = "stay"
    confidence_points: int = 2
    latency_percent: int = 20
    drift_points: int = 15
    device: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a rollout.

    Attributes:
        kind: How it chooses devices.
        amount: The number of devices or the percentage; else 0.
        query: Which tags, for a phase by query.
        sample: In place of the policy's, None for the same.
        soak_seconds: In place of the policy's.
        deadline_seconds: In place of the policy's.
        devices: The devices chosen when a canary phase began.
        state: Where it stands.
        started_us: When it began.
        ended_us: When its gate let it pass.
        promoted: Who let it pass without the evidence, and why; None for nobody.
        gate: The last decision of its gate as plain values.
    """

    kind: PhaseKind
    amount: int = 0
    query: str = ""
    sample: int | None = None
    soak_seconds: int | None = None
    deadline_seconds: int | None = None
    devices: tuple[str, ...] = ()
    state: PhaseState = PhaseState.PENDING
    started_us: int | None = None
    ended_us: int | None = None
    promoted: str | None = None
    gate: Mapping[str, Any] | None = None

    def specialise(self, policy: Policy) -> Policy:
        """Return the policy of this phase."""
        own = {
            name: getattr(self, name)
            for name in ("sample", "soak_seconds", "deadline_seconds")
            if getattr(self, name) is not None
        }
        return replace(policy, **own)


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits for a second person.

    Attributes:
        action: Which verb.
        by: Who asked; must not be who approves.
        text: The reason that was given with it.
        asked_us: When.
    """

    action: str
    by: str
    text: str
    asked_us: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release on its way to one slot of one fleet.

    Attributes:
        id: Its name, such as ``r3``.
        fleet: Whose devices.
        slot: Which slot of the devices.
        model: The model's name.
        release_counter: The release's number.
        digest: The release digest.
        target_path: The release's name in the TUF repository.
        salt: Makes the choice of devices differ between rollouts.
        phases: In order; the last one is ``all``.
        policy: What the gates ask for.
        where: Only devices whose tags fit this query take part; empty for all.
        accepted: Why too little evidence is enough, in the words of who said so.
        state: Where it stands.
        reason: Why it is in this state, in words.
        created_us: When it was written down.
        created_by: Who did.
        started_us: When it began to decide; reports from before are not about it.
        after_version: The fleet's ``desired_version`` at that time, likewise.
        forgiven_us: Invariants that broke before this were looked at by a person.
        pending: What waits for a second person.
    """

    id: str
    fleet: str
    slot: str
    model: str
    release_counter: int
    digest: str
    target_path: str
    salt: str
    phases: tuple[Phase, ...]
    policy: Policy = field(default_factory=Policy)
    where: str = ""
    accepted: str | None = None
    state: RolloutState = RolloutState.RUNNING
    reason: str = ""
    created_us: int = 0
    created_by: str = ""
    started_us: int = 0
    after_version: int = 0
    forgiven_us: int = 0
    pending: Pending | None = None

    @property
    def reached(self) -> tuple[Phase, ...]:
        """The phases that have begun."""
        return tuple(one for one in self.phases if one.state != PhaseState.PENDING)

    @property
    def current(self) -> int | None:
        """The place of the first phase that has not passed; None after the last."""
        states = [one.state is PhaseState.PASSED for one in self.phases]
        return None if all(states) else states.index(False)


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the planner sees it.

    Attributes:
        id: Its name.
        tags: Its tags, as the server set them.
        last_seen_us: Its last authentic message, None if it was never seen.
    """

    id: str
    tags: Mapping[str, str]
    last_seen_us: int | None


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one device in one rollout.

    Attributes:
        outcome: What became of it so far.
        since_us: When it started, or when the outcome became known.
        reason: The code of its failure, else empty.
        invariant: Which invariant broke on live traffic, else empty.
        failures: How many of its attempts ended badly.
        compared: Inferences that old and new release both made.
        disagreed: Of these, those with another winner.
    """

    outcome: DeviceOutcome
    since_us: int = 0
    reason: str = ""
    invariant: str = ""
    failures: int = 0
    compared: int = 0
    disagreed: int = 0
