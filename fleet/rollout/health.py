# SPDX-License-Identifier: Apache-2.0
"""Is a release worse than the one before, beside devices that still have that?

Owns the comparison with the concurrent control cohort: devices of the same fleet and
query on an older release, in the same hours. What is compared is each device's change
against its own days before, so neither a slow device nor a hot afternoon counts for or
against the release. Pure; ``cohorts`` reads the figures.

A release passes only if *every* figure is shown to be worse by less than its margin:
an intersection-union test, which needs no correction (R. L. Berger, Technometrics 24,
1982). It halts if *any* is shown to be worse by more: there the error is shared among
the figures (Bonferroni). Both by bounds that hold at every look; see ``bounds``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from fleet.rollout.bounds import (
    Interval,
    Sample,
    Share,
    compare_means,
    compare_shares,
)
from fleet.rollout.model import Policy

ALPHA: Final = 0.05
MIN_DEVICES: Final = 10  # below, no variance between devices can be trusted
_POINT: Final = 100.0
# Tuned to about 60 devices, where a share is known to a tenth and not better.
_SHARE_SCALE: Final = 0.1


class Standing(StrEnum):
    """What a comparison has shown so far."""

    NOT_WORSE = "not_worse"
    WORSE = "worse"
    UNDECIDED = "undecided"
    TOO_FEW = "too_few_devices"
    UNMEASURED = "unmeasured"  # by no device; does not stand in the way


@dataclass(frozen=True, slots=True)
class Cohort:
    """The figures of the devices of one side.

    Attributes:
        devices: How many there are.
        confidence: Change of mean confidence, points of a hundred.
        latency: Change of the 95th percentile, as log2 of the ratio.
        drift: Devices with a drift verdict since the rollout started.
    """

    devices: int = 0
    confidence: Sample = field(default_factory=Sample)
    latency: Sample = field(default_factory=Sample)
    drift: Share = field(default_factory=Share)


@dataclass(frozen=True, slots=True)
class Cohorts:
    """Both sides, and what only the new release has.

    Attributes:
        treated: Devices that run the release of the rollout.
        control: Devices on an older one, in the same hours.
        disagreement: A device's share of other winners than the old release, percent.
        deploy_verdict: What the drift engine says of the release itself, else empty.
    """

    treated: Cohort = field(default_factory=Cohort)
    control: Cohort = field(default_factory=Cohort)
    disagreement: Sample = field(default_factory=Sample)
    deploy_verdict: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both cohorts.

    Attributes:
        figure: Which.
        treated: Devices behind it on the new release.
        control: Devices behind it on an older one.
        worse_by: The estimate, in ``unit``; None with too few devices.
        upper: It is shown to be below this.
        lower: It is shown to be above this.
        margin: What is tolerated.
    """

    figure: str
    unit: str
    treated: int
    control: int
    margin: float
    standing: Standing
    worse_by: float | None = None
    lower: float | None = None
    upper: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; real numbers as decimal strings."""
        reals = {
            "margin": self.margin,
            "worse_by": self.worse_by,
            "lower": self.lower,
            "upper": self.upper,
        }
        return {
            "figure": self.figure,
            "unit": self.unit,
            "treated": self.treated,
            "control": self.control,
            "standing": self.standing.value,
            **{
                name: None if value is None else f"{value:.4f}"
                for name, value in reals.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Health:
    """All comparisons of one look."""

    comparisons: tuple[Comparison, ...]
    deploy_verdict: str = ""

    @property
    def is_worse(self) -> bool:
        """Whether the release is shown to be worse."""
        return bool(self.deploy_verdict) or self._any(Standing.WORSE)

    @property
    def is_shown_good(self) -> bool:
        """Whether every figure is shown to be not worse."""
        open_ones = {Standing.UNDECIDED, Standing.TOO_FEW, Standing.WORSE}
        is_open = any(one.standing in open_ones for one in self.comparisons)
        return not is_open and not self.is_worse and self._any(Standing.NOT_WORSE)

    @property
    def words(self) -> str:
        """What stands in the way, or what was shown, for people."""
        if self.deploy_verdict:
            return self.deploy_verdict
        for standing in (Standing.WORSE, Standing.UNDECIDED, Standing.TOO_FEW):
            found = [one for one in self.comparisons if one.standing is standing]
            if found:
                return "; ".join(_describe(one) for one in found)
        shown = [one.figure for one in self.comparisons if one.worse_by is not None]
        if not shown:
            return "no device of either cohort measured anything in the same hours"
        return f"not worse than the control cohort: {', '.join(shown)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "words": self.words,
            "deploy_verdict": self.deploy_verdict,
            "comparisons": [one.to_json() for one in self.comparisons],
        }

    def _any(self, standing: Standing) -> bool:
        return any(one.standing is standing for one in self.comparisons)


def judge_cohorts(cohorts: Cohorts, policy: Policy) -> Health:
    """Compare the cohorts under a policy's margins.

    >>> steady = Cohort(60, Sample(60, 0.0, 4.0), Sample(60, 0.0, 0.01), Share(0, 900))
    >>> unsure = Cohort(60, Sample(60, -9.0, 4.0), Sample(60, 0.0, 0.01), Share(0, 900))
    >>> judge_cohorts(Cohorts(steady, steady), Policy()).is_shown_good
    True
    >>> judge_cohorts(Cohorts(unsure, steady), Policy()).is_worse
    True
    """
    treated, control = cohorts.treated, cohorts.control
    latency = math.log2(1 + policy.latency_percent / _POINT)
    drift = policy.drift_points / _POINT
    asked = [
        _Asked("confidence", "points", policy.confidence_points, control.confidence,
               treated.confidence),
        _Asked("latency", "log2 of the ratio", latency, treated.latency,
               control.latency),
        _Asked("drift", "share of devices", drift, treated.drift, control.drift),
    ]  # fmt: skip
    limit = find_disagreement_limit(policy.device)
    if limit is not None:
        # Nobody disagrees with itself: the control cohort's figure is known.
        none = Sample(MIN_DEVICES, 0.0, 0.0) if cohorts.disagreement.n else Sample()
        asked.append(
            _Asked("disagreement", "percent", limit, cohorts.disagreement, none)
        )
    measured = sum(one.first.n > 0 or one.second.n > 0 for one in asked)
    found = [_compare(one, ALPHA / max(measured, 1)) for one in asked]
    return Health(tuple(found), cohorts.deploy_verdict)


def find_disagreement_limit(device_policy: Mapping[str, Any]) -> float | None:
    """Return what the policy of the devices tolerates, percent; None for anything."""
    limit = device_policy.get("trial", {}).get("max_disagreement_percent")
    return None if limit is None else float(limit)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A figure of which a higher ``first`` than ``second`` is worse."""

    figure: str
    unit: str
    margin: float
    first: Sample | Share
    second: Sample | Share


def _compare(asked: _Asked, halt_alpha: float) -> Comparison:
    first, second, margin = asked.first, asked.second, asked.margin
    # Confidence is the one figure whose first side is the control cohort.
    treated, control = first.n, second.n
    if asked.figure == "confidence":
        treated, control = control, treated
    base = (asked.figure, asked.unit, treated, control, margin)
    if not treated and not control:
        return Comparison(*base, Standing.UNMEASURED)
    if min(treated, control) < MIN_DEVICES:
        return Comparison(*base, Standing.TOO_FEW)
    passing = _bound(first, second, margin, ALPHA)
    lower = _bound(first, second, margin, halt_alpha).lower
    standing = Standing.UNDECIDED
    if lower > margin:
        standing = Standing.WORSE
    elif passing.upper < margin:
        standing = Standing.NOT_WORSE
    return Comparison(*base, standing, passing.difference, lower, passing.upper)


def _bound(
    first: Sample | Share, second: Sample | Share, margin: float, alpha: float
) -> Interval:
    compare: Callable[..., Interval] = compare_means
    scale = margin
    if isinstance(first, Share):
        compare, scale = compare_shares, _SHARE_SCALE
    return compare(first, second, scale, alpha)


def _describe(one: Comparison) -> str:
    sides = f"{one.treated} devices beside {one.control}"
    if one.standing is Standing.TOO_FEW:
        return f"{one.figure}: {sides}, at least {MIN_DEVICES} each are needed"
    verdict = (
        "is worse by more than tolerated"
        if one.standing is Standing.WORSE
        else "may still be worse by more than tolerated"
    )
    return (
        f"{one.figure} {verdict}: {one.worse_by:.3g} ({one.lower:.3g} to"
        f" {one.upper:.3g}) {one.unit}, tolerated {one.margin:.3g}; {sides}"
    )
