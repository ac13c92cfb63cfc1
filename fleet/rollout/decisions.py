# SPDX-License-Identifier: Apache-2.0
"""What a person may do to a rollout, and what needs a second one.

Owns the transitions that people make and the rule of two persons. Pure; ``engine``
stores and audits. Stopping is never held up: pause and abort need nobody else.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from fleet.auth.actor import PERSON
from fleet.rollout.errors import RolloutApprovalError, RolloutConflictError
from fleet.rollout.model import Pending, PhaseState, Rollout, RolloutState
from fleet.rollout.request import check_text

START: Final = "start"
RESUME: Final = "resume"
PROMOTE: Final = "promote"
ROLL_BACK: Final = "roll-back"
OVERRIDE: Final = "override"

_S = RolloutState
_STOPPABLE = frozenset(one for one in _S if one.is_active)


def start(rollout: Rollout, now_us: int, after_version: int) -> Rollout:
    """Begin a draft."""
    _require(rollout, {_S.DRAFT}, START)
    return replace(
        rollout,
        state=_S.RUNNING,
        reason="",
        pending=None,
        started_us=now_us,
        after_version=after_version,
    )


def pause(rollout: Rollout) -> Rollout:
    """Let no further device begin."""
    _require(rollout, {_S.RUNNING, _S.HELD}, "pause")
    return replace(rollout, state=_S.PAUSED, reason="paused by a person", pending=None)


def resume(rollout: Rollout, text: str | None, now_us: int) -> Rollout:
    """Go on after a pause, a hold or a halt.

    Args:
        rollout: The rollout.
        text: Why too little evidence is enough; after a halt, why the invariants that
            broke so far are no reason against the release.
        now_us: The present time.
    """
    _require(rollout, {_S.PAUSED, _S.HELD, _S.HALTED}, RESUME)
    if text is not None:
        check_text(text)
    if rollout.state is _S.HALTED and text is None:
        raise RolloutConflictError(
            f"rollout {rollout.id}: expected a reason to go on after a halt, found none"
            f" ({rollout.reason})",
            next_step=f"`edge-fleet rollout roll-back {rollout.id}`, or resume with"
            " --accept-insufficient-evidence TEXT",
        )
    is_halted = rollout.state is _S.HALTED
    resumed = replace(rollout, state=_S.RUNNING, reason="", pending=None)
    if is_halted:
        return replace(resumed, forgiven_us=now_us)
    return replace(resumed, accepted=rollout.accepted if text is None else text)


def promote(rollout: Rollout, text: str, by: str) -> Rollout:
    """Let the running phase pass without the evidence that its gate asks for."""
    _require(rollout, {_S.RUNNING, _S.PAUSED, _S.HELD}, PROMOTE)
    check_text(text)
    number = rollout.current
    if number is None or rollout.phases[number].state is not PhaseState.RUNNING:
        raise RolloutConflictError(
            f"rollout {rollout.id}: cannot promote: expected a phase that has begun,"
            " found none",
            next_step="wait until the phase has begun",
        )
    phases = list(rollout.phases)
    phases[number] = replace(phases[number], promoted=f"{text} ({by})")
    return replace(
        rollout, state=_S.RUNNING, reason="", phases=tuple(phases), pending=None
    )


def abort(rollout: Rollout) -> Rollout:
    """End a rollout; its devices return to what they had before."""
    _require(rollout, {_S.DRAFT, *_STOPPABLE}, "abort")
    return replace(
        rollout, state=_S.ABORTED, reason="aborted by a person", pending=None
    )


def roll_back(rollout: Rollout, older: str, by: str) -> Rollout:
    """Bring the devices of a rollout back to what they had before.

    Args:
        rollout: Under way or completed.
        older: What they return to, in words.
        by: Who says so.
    """
    _require(rollout, {_S.COMPLETED, *_STOPPABLE}, ROLL_BACK)
    reason = f"rolled back to {older} by {by}"
    if rollout.reason and rollout.state is not _S.COMPLETED:
        reason += f": {rollout.reason}"
    return replace(rollout, state=_S.ROLLED_BACK, reason=reason, pending=None)


def needs_second_person(
    approve: Collection[str], action: str, *, is_override: bool
) -> bool:
    """Whether a policy asks for a second person.

    >>> needs_second_person(["override"], "start", is_override=True)
    True
    >>> needs_second_person(["override"], "start", is_override=False)
    False
    """
    return action in approve or (is_override and OVERRIDE in approve)


def ask(rollout: Rollout, action: str, text: str, by: str, now_us: int) -> Rollout:
    """Leave something for a second person.

    Raises:
        RolloutApprovalError: The operating system has not named who asks.
    """
    _check_person(rollout, by, "ask for")
    return replace(rollout, pending=Pending(action, by, text, now_us))


def find_approved(rollout: Rollout, by: str) -> Pending:
    """Return what ``by`` may approve.

    Raises:
        RolloutConflictError: Nothing waits.
        RolloutApprovalError: It is their own, or the operating system has not named
            them.
    """
    pending = rollout.pending
    if pending is None:
        raise RolloutConflictError(
            f"rollout {rollout.id}: expected something to approve, found nothing",
            next_step=f"`edge-fleet rollout show {rollout.id}` says where it stands",
        )
    _check_person(rollout, by, "approve")
    own = {pending.by, *((rollout.created_by,) if pending.action == START else ())}
    if by in own:
        raise RolloutApprovalError(
            f"rollout {rollout.id}: expected somebody else than {by} to approve"
            f" {pending.action}, which they asked for themselves",
            next_step=f"another person runs `edge-fleet rollout approve {rollout.id}`",
        )
    return pending


def _check_person(rollout: Rollout, by: str, what: str) -> None:
    if not by.startswith(PERSON):
        raise RolloutApprovalError(
            f"rollout {rollout.id}: expected a person whom the operating system names"
            f" to {what} this, found the token's name {by}",
            next_step="run the command on the server's machine with --socket",
        )


def _require(rollout: Rollout, states: Collection[RolloutState], verb: str) -> None:
    if rollout.state not in states:
        expected = " or ".join(sorted(state.value for state in states))
        raise RolloutConflictError(
            f"rollout {rollout.id}: cannot {verb}: expected it to be {expected}, found"
            f" {rollout.state.value}",
            next_step="to go back from a completed rollout, `edge-fleet rollout"
            " roll-back`; to go on, create a new one",
        )
