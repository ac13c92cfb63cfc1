# SPDX-License-Identifier: Apache-2.0
"""The gate at the end of a phase: may the next one begin?

Owns the statistics and the decision. The denominator is the devices that started; one
that is late has failed; one that never started is unknown and says nothing. A phase
passes only if the upper Wilson bound of the failure rate lies below the limit, so a
small sample cannot pass by luck: "no failure among ten" is compatible with one bad
device in five. For a fleet too small to ever show it, a named person may accept that,
on record, and then the first failure still holds the rollout.

Pure: no clock and no store. E. B. Wilson, "Probable inference, the law of succession,
and statistical inference", JASA 22 (1927).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from fleet.rollout.model import DeviceOutcome, Observation, Policy

Z_ONE_SIDED_95: Final = 1.6448536269514722
_MICROSECONDS: Final = 1_000_000


class Decision(StrEnum):
    """What a gate says."""

    WAIT = "wait"
    ADVANCE = "advance"
    HOLD = "hold"


class Ground(StrEnum):
    """Why it says so; stable, for programs."""

    IN_PROGRESS = "in_progress"
    NOT_STARTED = "not_started"
    SOAKING = "soaking"
    EVIDENCE = "evidence"
    ACCEPTED = "accepted_insufficient_evidence"
    NOTHING_TO_DO = "nothing_to_do"
    INSUFFICIENT = "insufficient_evidence"
    FAILURES = "failures"


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
    """

    succeeded: int = 0
    failed: int = 0
    late: int = 0
    in_progress: int = 0
    unknown: int = 0
    already: int = 0
    last_success_us: int = 0

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
    """

    decision: Decision
    ground: Ground
    words: str
    tally: Tally
    upper_bound: float
    needed: int

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
        }


def wilson_upper(failures: int, trials: int, z: float = Z_ONE_SIDED_95) -> float:
    """Return the upper bound of a rate after ``failures`` in ``trials``.

    >>> round(wilson_upper(0, 10), 4)
    0.2129
    >>> round(wilson_upper(1, 100), 4)
    0.0436
    >>> wilson_upper(0, 0)
    1.0
    """
    if trials == 0:
        return 1.0
    centre, spread = _wilson(failures, trials, z)
    return min(1.0, centre + spread)


def wilson_lower(failures: int, trials: int, z: float = Z_ONE_SIDED_95) -> float:
    """Return the lower bound of a rate after ``failures`` in ``trials``.

    >>> round(wilson_lower(10, 100), 4)
    0.0607
    >>> wilson_lower(0, 0)
    0.0
    """
    if trials == 0:
        return 0.0
    centre, spread = _wilson(failures, trials, z)
    return max(0.0, centre - spread)


def _wilson(failures: int, trials: int, z: float) -> tuple[float, float]:
    rate, squared = failures / trials, z * z
    centre = rate + squared / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + squared / (4 * trials**2))
    whole = 1 + squared / trials
    return centre / whole, spread / whole


def needed_devices(limit: float) -> int:
    """Return how many devices without a failure show a rate below ``limit``.

    >>> needed_devices(0.05)
    52
    """
    # Without failures the bound is z^2 / (n + z^2).
    squared = Z_ONE_SIDED_95**2
    return math.floor(squared * (1 - limit) / limit) + 1


def tally_observations(
    observations: Iterable[Observation], policy: Policy, now_us: int
) -> Tally:
    """Count outcomes; a started device past its deadline is late."""
    counts = dict.fromkeys(
        ("succeeded", "failed", "late", "in_progress", "unknown", "already"), 0
    )
    last_success_us = 0
    for one in observations:
        name = one.outcome.value
        if one.outcome is DeviceOutcome.STARTED:
            age_us = now_us - one.since_us
            is_late = age_us >= policy.deadline_seconds * _MICROSECONDS
            name = "late" if is_late else "in_progress"
        elif one.outcome is DeviceOutcome.SUCCEEDED:
            last_success_us = max(last_success_us, one.since_us)
        counts[name] += 1
    return Tally(**counts, last_success_us=last_success_us)


def judge(
    tally: Tally,
    policy: Policy,
    *,
    started_us: int,
    now_us: int,
    accepted: str | None,
) -> Verdict:
    """Decide whether a phase passes.

    Args:
        tally: The outcomes of all devices that the rollout has reached.
        policy: What is asked for.
        started_us: When the phase began.
        now_us: The present time.
        accepted: The text by which someone accepted insufficient evidence.
    """
    finding = (
        _find_hold(tally, policy)
        or _find_wait(tally, policy, now_us - started_us, now_us)
        or _conclude(tally, policy, accepted)
    )
    return Verdict(
        *finding,
        tally,
        wilson_upper(tally.failures, tally.judged),
        needed_devices(policy.failure_percent / 100),
    )


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


def _find_wait(
    tally: Tally, policy: Policy, elapsed_us: int, now_us: int
) -> _Finding | None:
    if tally.in_progress:
        words = f"{tally.in_progress} devices are updating"
        return Decision.WAIT, Ground.IN_PROGRESS, words
    in_time = elapsed_us < policy.deadline_seconds * _MICROSECONDS
    nobody = tally.judged == 0 and tally.already == 0
    if nobody or (tally.unknown and in_time):
        words = f"{tally.unknown} devices have not started yet"
        return Decision.WAIT, Ground.NOT_STARTED, words
    soaked_us = now_us - tally.last_success_us
    if tally.succeeded and soaked_us < policy.soak_seconds * _MICROSECONDS:
        words = f"watching for {policy.soak_seconds} s after the last device"
        return Decision.WAIT, Ground.SOAKING, words
    return None


def _conclude(tally: Tally, policy: Policy, accepted: str | None) -> _Finding:
    limit, judged = policy.failure_percent / 100, tally.judged
    if judged == 0:
        words = f"{tally.already} devices served this release already, none had to act"
        return Decision.ADVANCE, Ground.NOTHING_TO_DO, words
    upper = wilson_upper(tally.failures, judged)
    figures = (
        f"{tally.failures} failures among {judged} devices: at most {upper:.1%} (95 %)"
    )
    if upper < limit:
        return Decision.ADVANCE, Ground.EVIDENCE, figures
    if tally.failures:
        words = f"{figures}, not below {policy.failure_percent} %"
        return Decision.HOLD, Ground.FAILURES, words
    words = (
        f"insufficient evidence: {judged} devices without a failure, but only"
        f" {needed_devices(limit)} could show a failure rate below"
        f" {policy.failure_percent} %"
    )
    if accepted is None:
        return Decision.HOLD, Ground.INSUFFICIENT, words
    return Decision.ADVANCE, Ground.ACCEPTED, f"{words}; accepted: {accepted}"
