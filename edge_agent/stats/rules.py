# SPDX-License-Identifier: Apache-2.0
"""Rules that tell a broken sensor at once, on the device, without a server.

Owns when a feature counts as missing, stuck or out of range and when a source is too
slow, and when each is over. Pure: fed with what was counted so far and the time; it
looks at batches of 64 rows or more, at most once a second, off the hot path.

============  =============================================================
missing       more than 5 points above the reference's share
out_of_range  more than 20 % outside of the range of the calibration data
stuck         repeats half-way from the reference's share to all, or a run
              of repeats ten times longer than the reference's longest
rate          less than half of the rows a second that the source promised
============  =============================================================

A share must pass its limit by two standard errors in two batches that follow each
other, or be nearly whole in one; it is over after two batches below four fifths of the
limit.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edge_agent.flow import Int64
from edge_contract.binning import Float64
from edge_contract.profile import FeatureReference, ReferenceProfile

BATCH_ROWS: Final = 64
BATCH_US: Final = 1_000_000
RATE_US: Final = 10_000_000
_RATE_ROWS: Final = 20
_MISSING: Final = 0.05
_OUTSIDE: Final = 0.2
_LONGER: Final = 10
_LEAST_BINS: Final = 8
_NEVER: Final = 2.0  # a share that no batch reaches
_NEARLY_ALL: Final = 0.95
_OVER: Final = 0.8
_TURNS: Final = 2
_STANDARD_ERRORS: Final = 2.0
_SLOW: Final = 0.5
_HALF: Final = 0.5
_MILLION: Final = 1_000_000
RATE: Final = "rate"


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one release has seen since it serves.

    Attributes:
        profile: Its reference profile.
        rows: Rows.
        missing: int64 [F], values that were not finite.
        outside: int64 [F], values outside of the profile's range.
        repeated: int64 [F], values equal to the one before.
    """

    profile: ReferenceProfile
    rows: int
    missing: Int64
    outside: Int64
    repeated: Int64


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one feature, or with the source as a whole.

    Attributes:
        feature: Its name; empty where the rule is ``rate``.
        rule: ``missing``, ``stuck``, ``out_of_range`` or ``rate``.
        share_ppm: Of the values that are wrong, or of the promised rate that came, in
            parts per million.
        rows: The rows that tell so.
    """

    feature: str
    rule: str
    share_ppm: int
    rows: int


@dataclass(frozen=True, slots=True)
class Change:
    """A fault that begins, or one that is over."""

    fault: Fault
    is_over: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Limits:
    """What the features of one release may do, float64 [F] each.

    Attributes:
        missing: Share of missing values.
        stuck: Share of repeats.
        run: Rows on end that repeat; infinite where no run tells anything.
    """

    missing: Float64
    stuck: Float64
    run: Float64

    @classmethod
    def of(cls, features: Sequence[FeatureReference]) -> "_Limits":
        return cls(
            np.array([_missing(one) for one in features]),
            np.array([_stuck_limit(one) for one in features]),
            np.array([_run_limit(one) for one in features]),
        )


@dataclass
class SensorWatch:
    """Tells which sensors are at fault.

    Args:
        rows_per_second: What the source promised; None: nothing.
        faults: Those that are open, by feature and rule; of an earlier run at first.
    """

    rows_per_second: float | None = None
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    _last: Seen | None = None
    _last_us: int = 0
    _rate_rows: int = 0
    _rate_us: int = 0
    _limits: _Limits = field(default_factory=lambda: _Limits.of(()))
    _runs: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _streaks: dict[tuple[str, str], int] = field(default_factory=dict)

    def look(self, seen: Seen, now_us: int) -> list[Change]:
        """Take what was counted so far.

        Args:
            seen: Of the release that serves.
            now_us: The time, of a clock that never goes back.

        Returns:
            What changed.
        """
        last = self._last
        if last is None or last.profile is not seen.profile:
            return list(self._begin(seen, now_us))
        changes = list(self._judge_rate(seen.rows, now_us))
        rows = seen.rows - last.rows
        if rows >= BATCH_ROWS and now_us - self._last_us >= BATCH_US:
            changes += self._judge(last, seen)
            self._last, self._last_us = seen, now_us
        return changes

    def _begin(self, seen: Seen, now_us: int) -> Iterator[Change]:
        """Start to watch a release; what it does not have cannot be at fault."""
        names = {one.name for one in seen.profile.features} | {""}
        for key, fault in list(self.faults.items()):
            if key[0] not in names or (key[1] == RATE and not self.rows_per_second):
                del self.faults[key]
                yield Change(fault, is_over=True)
        self._last, self._last_us = seen, now_us
        self._rate_rows, self._rate_us = seen.rows, now_us
        self._limits = _Limits.of(seen.profile.features)
        self._runs = np.zeros(len(seen.profile.features), dtype=np.int64)
        self._streaks.clear()

    def _judge(self, last: Seen, seen: Seen) -> Iterator[Change]:
        rows, limits = seen.rows - last.rows, self._limits
        missing = seen.missing - last.missing
        valid = np.maximum(rows - missing, 1)
        repeated = _stuck_values(seen, last)
        self._runs = np.where(repeated >= rows, self._runs + rows, 0)
        is_run = self._runs >= limits.run
        shares = {
            "missing": (missing / rows, limits.missing),
            "out_of_range": (
                (seen.outside - last.outside) / valid,
                np.full(len(valid), _OUTSIDE),
            ),
            # A long run is a fault whatever the share is; a short one never is.
            "stuck": (repeated / rows, np.where(is_run, _OUTSIDE, limits.stuck)),
        }
        names = [one.name for one in seen.profile.features]
        for rule, (share, limit) in shares.items():
            error = _STANDARD_ERRORS * np.sqrt(limit * np.maximum(1 - limit, 0) / rows)
            is_bad = (share > limit + error).tolist()
            is_good = (share < _OVER * np.minimum(limit, 1)).tolist()
            for index, name in enumerate(names):
                is_open = (name, rule) in self.faults
                if is_good[index] if is_open else is_bad[index]:
                    fault = Fault(name, rule, _ppm(share[index]), rows)
                    yield from self._note(fault, float(share[index]))
                else:
                    self._streaks.pop((name, rule), None)

    def _note(self, fault: Fault, share: float) -> Iterator[Change]:
        """Note one batch that speaks for a fault, or, of an open one, against it."""
        key = (fault.feature, fault.rule)
        streak = self._streaks[key] = self._streaks.get(key, 0) + 1
        is_plain = key not in self.faults and share >= _NEARLY_ALL
        if streak >= _TURNS or is_plain:
            yield self._turn(fault)

    def _judge_rate(self, rows: int, now_us: int) -> Iterator[Change]:
        promised = self.rows_per_second
        if not promised:
            return
        elapsed_us = now_us - self._rate_us
        if elapsed_us < max(RATE_US, _RATE_ROWS / promised * _MILLION):
            return
        found = rows - self._rate_rows
        share = found / (promised * elapsed_us / _MILLION)
        self._rate_rows, self._rate_us = rows, now_us
        is_open = ("", RATE) in self.faults
        if share >= _OVER if is_open else share < _SLOW:
            yield self._turn(Fault("", RATE, _ppm(share), found))

    def _turn(self, fault: Fault) -> Change:
        """Open a fault, or close it; the caller has found that it must."""
        key = (fault.feature, fault.rule)
        self._streaks.pop(key, None)
        is_over = self.faults.pop(key, None) is not None
        if not is_over:
            self.faults[key] = fault
        return Change(fault, is_over)


def by_key(faults: Iterable[Fault]) -> dict[tuple[str, str], Fault]:
    """Return faults as ``SensorWatch.faults`` holds them."""
    return {(one.feature, one.rule): one for one in faults}


def _stuck_values(seen: Seen, last: Seen) -> Int64:
    """Return the repeats of each feature that can be stuck, int64 [F].

    What is computed of a whole frame (a share of dark pixels) repeats in good health;
    a frozen camera repeats all of it. There the first feature stands for all.
    """
    repeated = seen.repeated - last.repeated
    if seen.profile.kind in {"vector", "series"}:
        return repeated
    frozen = np.zeros_like(repeated)
    frozen[0] = repeated.min()
    return frozen


def _missing(one: FeatureReference) -> float:
    held = int(one.counts.sum()) + one.missing
    return min(one.missing / held + _MISSING, 1.0)


def _can_stick(one: FeatureReference) -> bool:
    """Return whether a value that stays tells anything: not a constant, not a flag."""
    return one.categories is None and one.sd > 0 and one.bins >= _LEAST_BINS


def _stuck_limit(one: FeatureReference) -> float:
    if not _can_stick(one) or one.repeat_ppm is None:
        return _NEVER
    share = one.repeat_ppm / _MILLION
    if share >= _HALF:
        return _NEVER
    return share + (1 - share) / 2


def _run_limit(one: FeatureReference) -> float:
    """Return how many rows on end are a fault where each repeats the one before."""
    if not _can_stick(one):
        return math.inf
    longest = BATCH_ROWS if one.repeat_ppm is None else one.longest_run
    return max(_LONGER * longest, BATCH_ROWS)


def _ppm(share: Float64 | float) -> int:
    return round(float(share) * _MILLION)
