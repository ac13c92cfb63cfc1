# SPDX-License-Identifier: Apache-2.0
"""The agent's own limits: what is done at each, and when it is over.

Pure: fed with readings and the time. A limit counts as passed after ten seconds above
it, and as kept again below nine tenths of it (temperature: three degrees below), so
that nothing flutters.

==========  ==============================================================
memory      an event; and where the agent has grown by a quarter since it
            had settled, a clean start anew (a leak heals, a large model does
            not: that one is told of, and serves on)
cpu         shadow models rest, and an event
temperature shadow models rest, the loops rest as long as they work, and an
            event
disk        releases that nobody names are deleted, and an event
==========  ==============================================================
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from edge_agent.config import LimitsConfig
from edge_agent.flow import Readings

SUSTAIN_US: Final = 10_000_000
SETTLE_US: Final = 10_000_000
GROWTH: Final = 1.25
_RELEASE: Final = 0.9
_COOLER_BY: Final = 3.0


class Limit(Enum):
    """What is limited."""

    MEMORY = "memory"
    CPU = "cpu"
    TEMPERATURE = "temperature"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Change:
    """A limit that is passed now, or kept again."""

    limit: Limit
    is_passed: bool
    detail: str


@dataclass
class LimitWatch:
    """Tells which limits are passed.

    Args:
        limits: The configured ones.

    Attributes:
        settled_bytes: The most resident memory in the first ten seconds.
        passed: The limits that are passed now.
    """

    limits: LimitsConfig
    settled_bytes: int = 0
    passed: set[Limit] = field(default_factory=set)
    _above_since: dict[Limit, int] = field(default_factory=dict)
    _rss_bytes: int = 0
    _settled_us: int | None = None

    @property
    def shadows_rest(self) -> bool:
        """Whether shadow models must rest."""
        return bool(self.passed & {Limit.CPU, Limit.TEMPERATURE})

    @property
    def loops_rest(self) -> bool:
        """Whether loops must rest as long as they work."""
        return Limit.TEMPERATURE in self.passed

    @property
    def wants_restart(self) -> bool:
        """Whether memory has grown over its limit, and a start anew would help."""
        has_grown = self._rss_bytes > self.settled_bytes * GROWTH
        return Limit.MEMORY in self.passed and has_grown

    def settle_anew(self) -> None:
        """Hear that another model serves: what it takes is no growth."""
        self.settled_bytes, self._settled_us = 0, None

    def look(self, readings: Readings, used_bytes: int, now_us: int) -> list[Change]:
        """Take readings.

        Args:
            readings: Of process and machine.
            used_bytes: What the state folder holds.
            now_us: The time, of a clock that never goes back.

        Returns:
            What changed.
        """
        self._rss_bytes = readings.rss_bytes or 0
        if self._settled_us is None:
            self._settled_us = now_us + SETTLE_US
        if now_us <= self._settled_us:
            self.settled_bytes = max(self.settled_bytes, self._rss_bytes)
        memory, disk = self.limits.memory, self.limits.disk
        cpu, heat = self.limits.cpu, self.limits.temperature
        permille = readings.cpu_permille
        rows = (
            (Limit.MEMORY, readings.rss_bytes, memory.bytes, memory.bytes * _RELEASE),
            (Limit.DISK, used_bytes, disk.bytes, disk.bytes * _RELEASE),
            (Limit.CPU, permille, cpu.value * 10, cpu.value * 10 * _RELEASE),
            (Limit.TEMPERATURE, readings.temperature, heat, heat - _COOLER_BY),
        )
        changes = []
        for limit, value, high, low in rows:
            if value is not None and self._turns(limit, value, high, low, now_us):
                is_passed = limit in self.passed
                words = "above its limit" if is_passed else "below its limit again"
                detail = f"{limit.value} is {words}: {value:g} of {high:g}"
                changes.append(Change(limit, is_passed, detail))
        return changes

    def _turns(
        self, limit: Limit, value: float, high: float, low: float, now_us: int
    ) -> bool:
        """Note one value; return whether the limit is passed or kept anew."""
        if limit in self.passed:
            if value < low:
                self.passed.discard(limit)
                return True
            return False
        if value <= high:
            self._above_since.pop(limit, None)
            return False
        since_us = self._above_since.setdefault(limit, now_us)
        if now_us - since_us < SUSTAIN_US:
            return False
        self.passed.add(limit)
        self._above_since.pop(limit)
        return True
