# SPDX-License-Identifier: Apache-2.0
"""What someone asks for when creating a rollout, checked.

Owns the grammar of phases (``5,site=berlin,10%/soak=1d,all``), of the settings for the
devices, and the bounds of a policy. Pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from edge_contract.errors import PolicyError, SelectionError
from edge_contract.selection import parse_query
from edge_contract.update_policy import (
    ShadowPolicy,
    TrialPolicy,
    UpdatePolicy,
    parse_policy,
)
from fleet.rollout.errors import RolloutRequestError
from fleet.rollout.model import Phase, PhaseKind, Policy

_COUNT = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)
_PERCENT = re.compile(r"([1-9][0-9]?)%", re.ASCII)
_SLOT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_SETTING = re.compile(r"(sample|soak|deadline)=(\d{1,9})([smhd]?)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MAX_CANARIES = 1000
_MAX_PHASES = 20
_MAX_TEXT = 500
_MAX_QUERY = 200  # two of them make one of the contract's 500
_MAX_PERCENT = 50
_MAX_SECONDS = 90 * 24 * 3600
_MAX_SAMPLE = 1_000_000
_ALL = ("all", "100%")
_ON_HALT = ("stay", "roll-back")


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
        where: Only devices whose tags fit this query; empty for all.
        accepted: Why too little evidence is enough, None if it is not.
        is_draft: Only write it down; ``start`` begins it.
    """

    model: str
    release: int | None
    fleet: str = "default"
    slot: str = "main"
    phases: tuple[Phase, ...] = ()
    policy: Policy = field(default_factory=Policy)
    where: str = ""
    accepted: str | None = None
    is_draft: bool = False


def parse_phases(words: Sequence[str]) -> tuple[Phase, ...]:
    """Parse phases such as ``["1", "site=berlin", "10%/soak=1d", "all"]``.

    A number is that many devices, chosen by the server; a percentage is a share of the
    fleet; anything else is a query over tags. ``/sample=``, ``/soak=`` and
    ``/deadline=`` give a phase its own figures. The last phase is always all devices,
    written or not.

    Raises:
        RolloutRequestError: A phase is none of these, or is not larger than the one
            before.

    >>> [phase.kind.value for phase in parse_phases(["1", "site=a", "10%"])]
    ['canary', 'query', 'percent', 'all']
    """
    phases: list[Phase] = []
    for number, word in enumerate(words, 1):
        phase = _parse_phase(word.strip(), number)
        if not _may_follow(phase, phases):
            raise RolloutRequestError(
                f"phase {number}: expected more devices than the phase before, found"
                f" {word!r}",
                next_step="order them as in --phases 5,site=berlin,10%,50%,all",
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


def split_phases(text: str) -> list[str]:
    """Split ``--phases`` at commas, except within double quotes.

    >>> split_phases('5,site="a,b",all')
    ['5', 'site="a,b"', 'all']
    """
    return re.findall(r'(?:"[^"]*"|[^,"]|")+', text)


def check_request(request: RolloutRequest) -> None:
    """Check slot, query, policy and text.

    Raises:
        RolloutRequestError: One is out of its bounds.
    """
    policy, text = request.policy, request.accepted
    bounded = (
        ("failure limit", policy.failure_percent, 1, _MAX_PERCENT, "%"),
        ("deadline", policy.deadline_seconds, 1, _MAX_SECONDS, "s"),
        ("soak", policy.soak_seconds, 0, _MAX_SECONDS, "s"),
        ("sample", policy.sample, 1, _MAX_SAMPLE, "devices"),
        ("confidence margin", policy.confidence_points, 1, 100, "points"),
        ("latency margin", policy.latency_percent, 1, 1000, "%"),
        ("drift margin", policy.drift_points, 1, 100, "points"),
    )
    for name, value, least, most, unit in bounded:
        if not least <= value <= most:
            raise _refuse(f"{least} to {most} {unit} for the {name}", f"{value}")
    if not _SLOT.fullmatch(request.slot):
        raise _refuse("a slot's name", repr(request.slot[:40]))
    if policy.on_halt not in _ON_HALT:
        raise _refuse(" or ".join(_ON_HALT), repr(policy.on_halt[:40]))
    if text is not None:
        check_text(text)
    if request.where:
        _check_query(request.where)
    check_device_policy(policy.device)


def check_text(text: str) -> None:
    """Check the reason that someone gives.

    Raises:
        RolloutRequestError: It is empty or very long.
    """
    if not 1 <= len(text.strip()) <= _MAX_TEXT:
        raise _refuse(
            f"a reason of 1 to {_MAX_TEXT} characters", f"{len(text.strip())}"
        )


def check_device_policy(policy: Mapping[str, Any]) -> None:
    """Check a rule's ``policy`` as docs/spec/updates.md describes it.

    Raises:
        RolloutRequestError: A key that devices do not know, or a value that they
            would ignore.
    """
    known = {
        "": {one.name for one in fields(UpdatePolicy)},
        "trial": {one.name for one in fields(TrialPolicy)},
        "shadow": {one.name for one in fields(ShadowPolicy)},
    }
    try:
        parse_policy(policy)
    except PolicyError as error:
        raise RolloutRequestError(error.message, next_step=error.next_step) from error
    # A device ignores what it does not know; who asks for it should hear so.
    for part, names in known.items():
        strange = set(policy if not part else policy.get(part) or {}) - names
        if strange:
            raise _refuse(
                f"a policy{' of ' * bool(part)}{part} with {', '.join(sorted(names))}",
                ", ".join(sorted(strange))[:200],
            )


def _parse_phase(word: str, number: int) -> Phase:
    base, *settings = word.split("/")
    phase = _parse_choice(base.strip(), number)
    for setting in settings:
        match = _SETTING.fullmatch(setting.strip())
        if match is None or (match[1] == "sample") == bool(match[3]):
            raise RolloutRequestError(
                f"phase {number}: expected sample=N, soak=TIME or deadline=TIME after"
                f" the /, found {setting[:40]!r}",
                next_step="write it as in 10%/sample=100/soak=1d/deadline=2h",
            )
        name, amount = match[1], int(match[2]) * _SECONDS.get(match[3], 1)
        if amount > (_MAX_SAMPLE if name == "sample" else _MAX_SECONDS):
            raise _refuse(f"a smaller {name}", setting)
        if name == "sample":
            phase = replace(phase, sample=amount)
        elif name == "soak":
            phase = replace(phase, soak_seconds=amount)
        else:
            phase = replace(phase, deadline_seconds=max(1, amount))
    return phase


def _parse_choice(word: str, number: int) -> Phase:
    if word in _ALL:
        return Phase(PhaseKind.ALL)
    if match := _PERCENT.fullmatch(word):
        return Phase(PhaseKind.PERCENT, int(match[1]))
    if _COUNT.fullmatch(word) and int(word) <= _MAX_CANARIES:
        return Phase(PhaseKind.CANARY, int(word))
    if "=" in word or word.startswith(("not ", "(")):
        _check_query(word)
        return Phase(PhaseKind.QUERY, query=word)
    raise RolloutRequestError(
        f"phase {number}: expected a number of devices (1 to {_MAX_CANARIES}), a"
        f" percentage, a query such as site=berlin, or all, found {word[:40]!r}",
        next_step="write them as in --phases 5,site=berlin,10%,50%,all",
    )


def _check_query(text: str) -> None:
    if len(text) > _MAX_QUERY:
        raise _refuse(f"a query of at most {_MAX_QUERY} characters", f"{len(text)}")
    try:
        parse_query(text)
    except SelectionError as error:
        raise RolloutRequestError(error.message, next_step=error.next_step) from error


def _may_follow(phase: Phase, before: Sequence[Phase]) -> bool:
    """Whether a phase adds devices to those before it, as far as words can tell."""
    if not before:
        return True
    if before[-1].kind is PhaseKind.ALL:
        return False
    if phase.kind is PhaseKind.QUERY:
        return phase.query not in [one.query for one in before]
    order = [PhaseKind.CANARY, PhaseKind.PERCENT, PhaseKind.ALL]
    return all(
        (order.index(phase.kind), phase.amount) > (order.index(one.kind), one.amount)
        for one in before
        if one.kind is not PhaseKind.QUERY
    )


def _refuse(expected: str, found: str) -> RolloutRequestError:
    return RolloutRequestError(
        f"rollout: expected {expected}, found {found}",
        next_step="see `edge-fleet rollout create --help`",
    )
