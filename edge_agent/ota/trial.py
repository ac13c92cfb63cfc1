# SPDX-License-Identifier: Apache-2.0
"""Trial rules: when a release on live traffic has proved itself, and when it has not.

Owns the invariants (docs/spec/updates.md, "Trial"). Pure: given what was seen so far,
it says commit, go back, or go on. Shares are judged by the lower bound of Wilson's
interval (1927) at 95 %, so that a few frames condemn nothing that many would not.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum, StrEnum
from typing import Final

from edge_contract.update_policy import TrialPolicy
from edge_contract.wire import Scalar

INFERENCES: Final = 50
SECONDS: Final = 3600.0
MIN_LATENCIES: Final = 50
MIN_COMPARED: Final = 30
NOISE_US: Final = 1000.0  # what a p95 may rise by, whatever the percentage
_Z: Final = 1.96
_MILLION: Final = 1_000_000


class TrialVerdict(Enum):
    """What follows from the inferences so far."""

    GO_ON = "go on"
    COMMIT = "commit"
    ROLL_BACK = "roll back"


class Invariant(StrEnum):
    """What a release must hold to."""

    NOT_FINITE = "not-finite"
    FAILED = "failed"
    LATENCY = "latency"
    MEMORY = "memory"
    CONFIDENCE = "confidence"
    DISAGREEMENT = "disagreement"


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What a trial asks; see ``TrialPolicy``. None: no limit."""

    inferences: int = INFERENCES
    seconds: float = SECONDS
    max_p95_percent: int = 300
    max_memory_bytes: int | None = None
    min_confidence_percent: int = 50
    max_disagreement_percent: int = 100

    def under(self, policy: TrialPolicy) -> "TrialLimits":
        """Return the limits where the policy of a rule comes first.

        >>> TrialLimits().under(TrialPolicy(inferences=7)).inferences
        7
        """
        said = {one.name: getattr(policy, one.name) for one in fields(policy)}
        return replace(self, **{k: v for k, v in said.items() if v is not None})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of a release; None where there was nothing to measure.

    Attributes:
        seconds: Since it began.
        finite: Inferences with finite outputs.
        not_finite: Good inputs whose output was not finite.
        failed: Good inputs that it could not answer.
        latencies: Inferences that the p95 is of; ``latencies_before`` likewise.
        p95_us: Of the release.
        p95_before_us: Of the one before it.
        grown_bytes: By which the process has grown since before it was loaded.
        rss_bytes: Resident memory of the process.
        is_comparable: Whether the release before it takes the same frames.
        compared: Frames that both answered.
        disagreed: Of these, other answers.
        confidence: Its mean confidence in them; None without classes.
        confidence_before: That of the release before it.
    """

    seconds: float = 0.0
    finite: int = 0
    not_finite: int = 0
    failed: int = 0
    latencies: int = 0
    latencies_before: int = 0
    p95_us: float | None = None
    p95_before_us: float | None = None
    grown_bytes: int | None = None
    rss_bytes: int | None = None
    is_comparable: bool = False
    compared: int = 0
    disagreed: int = 0
    confidence: float | None = None
    confidence_before: float | None = None

    def figures(self, breach: Invariant | None = None) -> dict[str, Scalar]:
        """Return what is reported (docs/spec/updates.md, UPD-27)."""
        found: dict[str, Scalar | float] = {
            "compared": self.compared,
            "disagreed": self.disagreed,
            "p95_us": self.p95_us,
            "p95_us_before": self.p95_before_us,
            "confidence_ppm": _ppm(self.confidence),
            "confidence_ppm_before": _ppm(self.confidence_before),
            "rss_kib": None if self.rss_bytes is None else self.rss_bytes // 1024,
            "seconds": self.seconds,
        }
        known: dict[str, Scalar] = {
            key: round(one)
            for key, one in found.items()
            if isinstance(one, int | float)
        }
        return known if breach is None else {**known, "invariant": breach.value}

    def describe(self, breach: Invariant) -> str:
        """Return in words how an invariant was broken."""
        return _WORDS[breach].format(**asdict(self))


_WORDS: Final = {
    Invariant.NOT_FINITE: "{not_finite} outputs are not finite",
    Invariant.FAILED: "{failed} good inputs were not answered",
    Invariant.LATENCY: "p95 of {p95_us:.0f} us, before {p95_before_us:.0f} us",
    Invariant.MEMORY: "the process has grown by {grown_bytes} bytes",
    Invariant.CONFIDENCE: "mean of {confidence:.3f}, before {confidence_before:.3f}",
    Invariant.DISAGREEMENT: "other answers in {disagreed} of {compared} frames",
}


def recall(figures: Mapping[str, Scalar]) -> Evidence:
    """Return what was seen of a release in the shadow before a start anew.

    >>> recall(Evidence(seconds=9, compared=5, disagreed=2).figures()).disagreed
    2
    """

    def number(name: str) -> int | None:
        found = figures.get(name)
        return found if type(found) is int else None

    def share(name: str) -> float | None:
        found = number(name)
        return None if found is None else found / _MILLION

    return Evidence(
        seconds=number("seconds") or 0,
        compared=number("compared") or 0,
        disagreed=number("disagreed") or 0,
        confidence=share("confidence_ppm"),
        confidence_before=share("confidence_ppm_before"),
    )


def judge(limits: TrialLimits, seen: Evidence) -> tuple[TrialVerdict, Invariant | None]:
    """Return what follows, and which invariant was broken.

    A trial without traffic ends at its time with a commit: the release has passed its
    golden vectors in this process, and nothing speaks against it.

    >>> judge(TrialLimits(), Evidence(finite=50))[0].value
    'commit'
    >>> judge(TrialLimits(), Evidence(finite=50, not_finite=1))[1].value
    'not-finite'
    """
    breach = find_breach(limits, seen)
    if breach is not None:
        return TrialVerdict.ROLL_BACK, breach
    is_proved = seen.finite >= limits.inferences and _is_compared(limits, seen)
    if is_proved or seen.seconds >= limits.seconds:
        return TrialVerdict.COMMIT, None
    return TrialVerdict.GO_ON, None


def find_breach(limits: TrialLimits, seen: Evidence) -> Invariant | None:
    """Return the first invariant that is broken, or None."""
    broken = {
        Invariant.NOT_FINITE: seen.not_finite > 0,
        Invariant.FAILED: seen.failed > 0,
        Invariant.LATENCY: _is_slow(limits, seen),
        Invariant.MEMORY: _has_grown(limits, seen),
        Invariant.CONFIDENCE: _is_unsure(limits, seen),
        Invariant.DISAGREEMENT: lower_percent(seen.disagreed, seen.compared)
        > limits.max_disagreement_percent,
    }
    return next((one for one, is_broken in broken.items() if is_broken), None)


def lower_percent(count: int, total: int) -> float:
    """Return the lower end of Wilson's interval for a share, in percent.

    >>> round(lower_percent(30, 60)), round(lower_percent(300, 600))
    (38, 46)
    """
    if not count:
        return 0.0
    share, weight = count / total, _Z**2 / total
    middle = share + weight / 2
    spread = _Z * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return 100 * (middle - spread) / (1 + weight)


def _is_compared(limits: TrialLimits, seen: Evidence) -> bool:
    asked = min(MIN_COMPARED, limits.inferences) if seen.is_comparable else 0
    return seen.compared >= asked


def _is_slow(limits: TrialLimits, seen: Evidence) -> bool:
    if seen.p95_us is None or seen.p95_before_us is None:
        return False
    is_early = min(seen.latencies, seen.latencies_before) < MIN_LATENCIES
    if is_early or not _is_compared(limits, seen):
        return False
    most_us = seen.p95_before_us * limits.max_p95_percent / 100
    return seen.p95_us > max(most_us, seen.p95_before_us + NOISE_US)


def _has_grown(limits: TrialLimits, seen: Evidence) -> bool:
    if limits.max_memory_bytes is None or seen.grown_bytes is None:
        return False
    return seen.grown_bytes > limits.max_memory_bytes


def _is_unsure(limits: TrialLimits, seen: Evidence) -> bool:
    if seen.confidence is None or seen.confidence_before is None:
        return False
    least = seen.confidence_before * limits.min_confidence_percent / 100
    return seen.compared >= MIN_COMPARED and seen.confidence < least


def _ppm(share: float | None) -> float | None:
    return None if share is None else share * _MILLION
