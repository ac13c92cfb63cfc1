# SPDX-License-Identifier: Apache-2.0
"""What someone asks for when creating a rollout, checked.

Owns the grammar of phases (``1,10%,all``) and the bounds of a policy. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleet.rollout.errors import RolloutRequestError
from fleet.rollout.model import Phase, PhaseKind, Policy

_COUNT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
_PERCENT = re.compile(r"([1-9][0-9]?)%", re.ASCII)
_SLOT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_MAX_CANARIES = 1000
_MAX_PHASES = 20
_MAX_TEXT = 500
_MAX_PERCENT = 50
_MAX_SECONDS = 90 * 24 * 3600
_ALL = ("all", "100%")


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """A rollout to be created.

    Attributes:
        model: The model's name.
        release: The release's number, None for the newest.
        fleet: Whose devices.
        slot: Which slot.
        phases: The phases; ``all`` is appended where it is missing.
        policy: What the gates ask for.
        tags: Only devices with these tags.
        accepted: Why too little evidence is enough, None if it is not.
    """

    model: str
    release: int | None
    fleet: str = "default"
    slot: str = "main"
    phases: tuple[Phase, ...] = ()
    policy: Policy = field(default_factory=Policy)
    tags: Mapping[str, str] = field(default_factory=dict)
    accepted: str | None = None


def parse_phases(words: Sequence[str]) -> tuple[Phase, ...]:
    """Parse phases such as ``["1", "10%", "all"]``.

    A number is that many devices, chosen by the server; a percentage is a share of the
    fleet. The last phase is always all devices, written or not.

    Raises:
        RolloutRequestError: A phase is none of these, or is not larger than the one
            before.

    >>> [phase.kind.value for phase in parse_phases(["1", "10%"])]
    ['canary', 'percent', 'all']
    """
    phases: list[Phase] = []
    for number, word in enumerate(words, 1):
        phase = _parse_phase(word.strip(), number)
        if phases and not _is_larger(phase, phases[-1]):
            raise RolloutRequestError(
                f"phase {number}: expected more devices than the phase before, found"
                f" {word!r}",
                next_step="order them as in --phases 5,10%,50%,all",
            )
        phases.append(phase)
    if not phases or phases[-1].kind is not PhaseKind.ALL:
        phases.append(Phase(PhaseKind.ALL))
    if len(phases) > _MAX_PHASES:
        raise RolloutRequestError(
            f"phases: expected at most {_MAX_PHASES}, found {len(phases)}",
            next_step="leave some out",
        )
    return tuple(phases)


def check_request(request: RolloutRequest) -> None:
    """Check slot, policy and text.

    Raises:
        RolloutRequestError: One is out of its bounds.
    """
    policy, text = request.policy, request.accepted
    problems = [
        (not _SLOT.fullmatch(request.slot), f"slot {request.slot[:40]!r}"),
        (
            not 1 <= policy.failure_percent <= _MAX_PERCENT,
            f"failure limit {policy.failure_percent} %, which is not 1 to 50",
        ),
        (
            not 1 <= policy.deadline_seconds <= _MAX_SECONDS,
            f"deadline {policy.deadline_seconds} s, which is not 1 s to 90 d",
        ),
        (
            not 0 <= policy.soak_seconds <= _MAX_SECONDS,
            f"soak {policy.soak_seconds} s, which is not 0 s to 90 d",
        ),
        (
            text is not None and not 1 <= len(text.strip()) <= _MAX_TEXT,
            "an empty or very long reason for accepting insufficient evidence",
        ),
    ]
    for is_wrong, found in problems:
        if is_wrong:
            raise RolloutRequestError(
                f"rollout: found {found}",
                next_step="see `edge-fleet rollout create --help`",
            )


def _parse_phase(word: str, number: int) -> Phase:
    if word in _ALL:
        return Phase(PhaseKind.ALL)
    if match := _PERCENT.fullmatch(word):
        return Phase(PhaseKind.PERCENT, int(match[1]))
    if _COUNT.fullmatch(word) and int(word) <= _MAX_CANARIES:
        return Phase(PhaseKind.CANARY, int(word))
    raise RolloutRequestError(
        f"phase {number}: expected a number of devices (1 to {_MAX_CANARIES}), a"
        f" percentage or all, found {word[:40]!r}",
        next_step="write them as in --phases 5,10%,50%,all",
    )


def _is_larger(phase: Phase, before: Phase) -> bool:
    order = [PhaseKind.CANARY, PhaseKind.PERCENT, PhaseKind.ALL]
    return (order.index(phase.kind), phase.amount) > (
        order.index(before.kind),
        before.amount,
    )
