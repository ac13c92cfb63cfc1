# SPDX-License-Identifier: Apache-2.0
"""What a rollout is: values, without behaviour.

Owns the states and the shape of phases, policies and rollouts. ``planner`` moves them
on, ``gate`` judges them, ``records`` keeps them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class RolloutState(StrEnum):
    """Where a rollout stands as a whole."""

    RUNNING = "running"
    PAUSED = "paused"  # by a person
    HELD = "held"  # by a gate
    COMPLETED = "completed"
    ABORTED = "aborted"

    @property
    def is_active(self) -> bool:
        """Whether the rollout still decides what some devices run."""
        return self in {RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.HELD}


class PhaseKind(StrEnum):
    """How a phase chooses its devices."""

    CANARY = "canary"  # a number of devices, named one by one
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
    """What a gate asks for.

    Attributes:
        failure_percent: The true share of failures must be shown to be below this.
        deadline_seconds: A device that started must have committed by then.
        soak_seconds: How long a phase is watched after its last device committed.
    """

    failure_percent: int = 5
    deadline_seconds: int = 3600
    soak_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a rollout.

    Attributes:
        kind: How it chooses devices.
        amount: The number of devices or the percentage; 0 for ``all``.
        devices: The devices chosen when a canary phase began.
        state: Where it stands.
        started_us: When it began.
        ended_us: When its gate let it pass.
        gate: The last decision of its gate as plain values.
    """

    kind: PhaseKind
    amount: int = 0
    devices: tuple[str, ...] = ()
    state: PhaseState = PhaseState.PENDING
    started_us: int | None = None
    ended_us: int | None = None
    gate: Mapping[str, Any] | None = None


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
        tags: Only devices with these tags take part.
        accepted: Why too little evidence is enough, in the words of who said so.
        state: Where it stands.
        reason: Why it is in this state, in words.
        created_us: When it began.
        created_by: Who began it.
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
    tags: Mapping[str, str] = field(default_factory=dict)
    accepted: str | None = None
    state: RolloutState = RolloutState.RUNNING
    reason: str = ""
    created_us: int = 0
    created_by: str = ""

    @property
    def reached(self) -> tuple[Phase, ...]:
        """The phases that have begun."""
        return tuple(one for one in self.phases if one.state != PhaseState.PENDING)


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
    """

    outcome: DeviceOutcome
    since_us: int = 0
    reason: str = ""
