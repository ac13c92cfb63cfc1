# SPDX-License-Identifier: Apache-2.0
"""The gate at the end of a phase: may the next one begin?

Owns the decision. The denominator is the devices that started; one that is late has
failed; one that never started is unknown and says nothing. A phase passes only if the
upper Wilson bound of the failure rate lies below the limit, so a small sample cannot
pass by luck, *and* the release is shown to be not worse than the one before (see
``health``). An invariant that broke on live traffic, or a control cohort that is shown
to do better, halts at once. For a fleet too small to ever show it, a named person may
accept that, on record, and then the first failure still holds the rollout.

Pure: no clock and no store. The statistics are in ``bounds``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from fleet.rollout.bounds import needed_devices, wilson_lower, wilson_upper
from fleet.rollout.health import Health
from fleet.rollout.model import DeviceOutcome, Observation, Policy

_MICROSECONDS: Final = 1_000_000


class Decision(StrEnum):
    """What a gate says."""

    WAIT = "wait"
    ADVANCE = "advance"
    HOLD = "hold"
    HALT = "halt"


class Ground(StrEnum):
    """Why it says so; stable, for programs."""

    IN_PROGRESS = "in_progress"
    NOT_STARTED = "not_started"
    SOAKING = "soaking"
    GATHERING = "gathering_evidence"
    EVIDENCE = "evidence"
    ACCEPTED = "accepted_insufficient_evidence"
    NOTHING_TO_DO = "nothing_to_do"
    INSUFFICIENT = "insufficient_evidence"
    FAILURES = "failures"
    PROMOTED = "promoted"
    INVARIANT = "invariant"
    WORSE = "worse_than_control"


_Finding: TypeAlias = tuple[Decision, Ground, str]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many devices of a phase are in which outcome.

    Attributes:
        succeeded: Committed and serving.
        failed: Reported a failure, a refusal or a roll-back.
        late: Started and did not commit before the deadline.
        in_progress: Started, with time left.
        unknown: Never started.
        already: Served the release before.
        last_success_us: When the last device succeeded.
        breach: A device whose invariant broke on live traffic, and which; else empty.
    """

    succeeded: int = 0
    failed: int = 0
    late: int = 0
    in_progress: int = 0
    unknown: int = 0
    already: int = 0
    last_success_us: int = 0
    breach: str = ""

    @property
    def judged(self) -> int:
        """The devices that the failure rate is computed from."""
        return self.succeeded + self.failed + self.late

    @property
    def failures(self) -> int:
        """The devices that count against the release."""
        return self.failed + self.late


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with its figures.

    Attributes:
        decision: What to do.
        ground: Why.
        words: Why, for people.
        tally: The devices behind it.
        upper_bound: Wilson upper bound of the failure rate; 1 without devices.
        needed: Devices without failure that would be evidence enough.
        health: The comparison with the control cohort, None where there is no older
            release to compare with.
    """

    decision: Decision
    ground: Ground
    words: str
    tally: Tally
    upper_bound: float
    needed: int
    health: Health | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the bound as a decimal string."""
        tally = self.tally
        return {
            "decision": self.decision.value,
            "ground": self.ground.value,
            "words": self.words,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "late": tally.late,
            "in_progress": tally.in_progress,
            "unknown": tally.unknown,
            "already": tally.already,
            "failure_upper_bound": f"{self.upper_bound:.4f}",
            "needed": self.needed,
            "breach": tally.breach,
            "health": None if self.health is None else self.health.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a gate looks at.

    Attributes:
        tally: The outcomes of all devices that the rollout has reached.
        health: The comparison with the control cohort, None where no device ever had
            another release in this slot.
    """

    tally: Tally
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a gate looks, and what people have said.

    Attributes:
        started_us: When the phase began.
        now_us: The present time.
        accepted: The text by which someone accepted insufficient evidence.
        promoted: The text by which someone let this phase pass.
    """

    started_us: int
    now_us: int
    accepted: str | None = None
    promoted: str | None = None


def tally_observations(
    observations: Iterable[tuple[str, Observation]],
    policy: Policy,
    now_us: int,
    forgiven_us: int = 0,
) -> Tally:
    """Count outcomes; a started device past its deadline is late.

    Args:
        observations: By device.
        policy: Of the phase.
        now_us: The present time.
        forgiven_us: Invariants that broke until then do not count as a breach.
    """
    counts = dict.fromkeys(
        ("succeeded", "failed", "late", "in_progress", "unknown", "already"), 0
    )
    last_success_us, breach = 0, ""
    for device, one in observations:
        name = one.outcome.value
        if one.outcome is DeviceOutcome.STARTED:
            age_us = now_us - one.since_us
            is_late = age_us >= policy.deadline_seconds * _MICROSECONDS
            name = "late" if is_late else "in_progress"
        elif one.outcome is DeviceOutcome.SUCCEEDED:
            last_success_us = max(last_success_us, one.since_us)
        elif one.invariant and one.since_us > forgiven_us:
            breach = breach or f"{device}: {one.invariant}"
        counts[name] += 1
    return Tally(**counts, last_success_us=last_success_us, breach=breach)


def judge(evidence: Evidence, policy: Policy, moment: Moment) -> Verdict:
    """Decide whether a phase passes; ``policy`` is that of the phase."""
    tally = evidence.tally
    finding = (
        _find_halt(evidence)
        or _find_promotion(moment)
        or _find_hold(tally, policy)
        or _find_wait(tally, policy, moment)
        or _conclude(evidence, policy, moment)
    )
    return Verdict(
        *finding,
        tally,
        wilson_upper(tally.failures, tally.judged),
        needed_devices(policy.failure_percent / 100),
        evidence.health,
    )


def _find_halt(evidence: Evidence) -> _Finding | None:
    if evidence.tally.breach:
        words = f"an invariant broke on live traffic: {evidence.tally.breach}"
        return Decision.HALT, Ground.INVARIANT, words
    health = evidence.health
    if health is not None and health.is_worse:
        return Decision.HALT, Ground.WORSE, health.words
    return None


def _find_promotion(moment: Moment) -> _Finding | None:
    if moment.promoted is None:
        return None
    return Decision.ADVANCE, Ground.PROMOTED, f"promoted: {moment.promoted}"


def _find_hold(tally: Tally, policy: Policy) -> _Finding | None:
    """Stop as soon as the outcome is settled, however many are still under way."""
    if not tally.failures:
        return None
    limit, failures = policy.failure_percent / 100, tally.failures
    started = tally.judged + tally.in_progress
    if wilson_lower(failures, started) > limit:
        verdict = f"the failure rate is above {policy.failure_percent} %"
    elif wilson_upper(failures, started + tally.unknown) >= limit:
        verdict = (
            f"a failure rate below {policy.failure_percent} % cannot be shown any more"
        )
    else:
        return None
    words = (
        f"{failures} of {started} devices that started failed ({tally.failed} reported"
        f" it, {tally.late} are late): {verdict}"
    )
    return Decision.HOLD, Ground.FAILURES, words


def _find_wait(tally: Tally, policy: Policy, moment: Moment) -> _Finding | None:
    in_time = _is_in_time(policy, moment)
    if tally.in_progress and (in_time or _may_change(tally, policy)):
        words = f"{tally.in_progress} devices are updating"
        return Decision.WAIT, Ground.IN_PROGRESS, words
    nobody = tally.judged == 0 and tally.already == 0
    if nobody or (tally.unknown and in_time):
        words = f"{tally.unknown} devices have not started yet"
        return Decision.WAIT, Ground.NOT_STARTED, words
    # Stragglers of a large fleet come back for days: they do not begin the soak anew.
    deadline_us = moment.started_us + policy.deadline_seconds * _MICROSECONDS
    soaked_us = moment.now_us - min(tally.last_success_us, deadline_us)
    if tally.succeeded and soaked_us < policy.soak_seconds * _MICROSECONDS:
        words = f"watching for {policy.soak_seconds} s after the last device"
        return Decision.WAIT, Ground.SOAKING, words
    return None


def _may_change(tally: Tally, policy: Policy) -> bool:
    """Whether the devices under way could still fail the phase, if all of them did."""
    failures = tally.failures + tally.in_progress
    judged = tally.judged + tally.in_progress
    return wilson_upper(failures, judged) >= policy.failure_percent / 100


def _conclude(evidence: Evidence, policy: Policy, moment: Moment) -> _Finding:
    tally, accepted = evidence.tally, moment.accepted
    limit, judged = policy.failure_percent / 100, tally.judged
    if judged == 0:
        words = f"{tally.already} devices served this release already, none had to act"
        return Decision.ADVANCE, Ground.NOTHING_TO_DO, words
    upper = wilson_upper(tally.failures, judged)
    figures = (
        f"{tally.failures} failures among {judged} devices: at most {upper:.1%} (95 %)"
    )
    if upper >= limit and tally.failures:
        words = f"{figures}, not below {policy.failure_percent} %"
        return Decision.HOLD, Ground.FAILURES, words
    missing = _missing(evidence, policy)
    if not missing:
        return Decision.ADVANCE, Ground.EVIDENCE, _add_health(figures, evidence.health)
    words = f"insufficient evidence: {missing}"
    if accepted is not None:
        return Decision.ADVANCE, Ground.ACCEPTED, f"{words}; accepted: {accepted}"
    if _may_still_come(evidence, upper, limit) and _is_in_time(policy, moment):
        return Decision.WAIT, Ground.GATHERING, words
    return Decision.HOLD, Ground.INSUFFICIENT, words


def _missing(evidence: Evidence, policy: Policy) -> str:
    """Say what has not been shown; empty when all has."""
    judged, health = evidence.tally.judged, evidence.health
    limit = policy.failure_percent / 100
    needed = needed_devices(limit)
    if wilson_upper(evidence.tally.failures, judged) >= limit:
        return (
            f"{judged} devices without a failure, but only {needed} could show a"
            f" failure rate below {policy.failure_percent} %"
        )
    if judged < policy.sample:
        return f"{judged} devices, but {policy.sample} were asked for"
    if health is not None and not health.is_shown_good:
        return health.words
    return ""


def _may_still_come(evidence: Evidence, upper: float, limit: float) -> bool:
    """Whether waiting helps: windows go on coming, devices do not."""
    return evidence.health is not None and upper < limit


def _is_in_time(policy: Policy, moment: Moment) -> bool:
    elapsed_us = moment.now_us - moment.started_us
    return elapsed_us < policy.deadline_seconds * _MICROSECONDS


def _add_health(figures: str, health: Health | None) -> str:
    return figures if health is None else f"{figures}; {health.words}"
