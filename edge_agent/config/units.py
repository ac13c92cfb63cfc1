# SPDX-License-Identifier: Apache-2.0
"""Values with units, as they are written in a configuration file.

Owns their forms and the bounds of a field. It reads no file.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar

from edge_contract.errors import PolicyError
from edge_contract.update_policy import MaintenanceWindow, parse_window

BOUNDS: Final = "bounds"
_T = TypeVar("_T")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)", re.ASCII)
_DURATION_US: Final = {
    "us": 1,
    "ms": 1000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)", re.ASCII)
_SIZE_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEK_TIMES = re.compile(r"(?:([a-z,-]+) )?(\d\d:\d\d)-(\d\d:\d\d)", re.ASCII)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A length of time, written ``250ms``, ``10s``, ``5m``, ``6h`` or ``1d``."""

    us: int

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.us / 1e6

    def __str__(self) -> str:
        unit = next(
            (one for one in reversed(_DURATION_US) if self.us % _DURATION_US[one] == 0),
            "us",
        )
        return f"{self.us // _DURATION_US[unit]}{unit}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a duration.

        >>> Duration.parse("1.28s").us
        1280000

        Raises:
            ValueError: Another form, or nothing.
        """
        found = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise wrong("a duration like 10s or 5m", text)
        us = round(float(found[1]) * _DURATION_US[found[2]])
        if us <= 0:
            raise wrong("a duration above zero", text)
        return cls(us)


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """A number of bytes, written ``512KiB`` or ``8MiB``."""

    bytes: int

    def __str__(self) -> str:
        unit = next(
            one for one in reversed(_SIZE_BYTES) if self.bytes % _SIZE_BYTES[one] == 0
        )
        return f"{self.bytes // _SIZE_BYTES[unit]}{unit}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a size.

        >>> Size.parse("8MiB").bytes
        8388608

        Raises:
            ValueError: Another form.
        """
        found = _SIZE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise wrong("a size like 512KiB or 8MiB", text)
        return cls(int(found[1]) * _SIZE_BYTES[found[2]])


@dataclass(frozen=True, slots=True)
class WeekTimes:
    """A time that comes back: ``22:00-06:00``, ``sat,sun 00:00-06:00``, ``mon-fri …``.

    Attributes:
        window: The same as a value; an end that is not after its start is of the day
            after.
    """

    window: MaintenanceWindow

    def __str__(self) -> str:
        one = self.window
        days = ",".join(_DAYS[day] for day in one.days)
        times = (f"{part // 60:02}:{part % 60:02}" for part in (one.start, one.end))
        return f"{days} {'-'.join(times)}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a time of the week.

        >>> str(WeekTimes.parse("fri-mon 22:30-06:00"))
        'mon,fri,sat,sun 22:30-06:00'

        Raises:
            ValueError: Another form.
        """
        expected = "times like `sat,sun 22:00-06:00`"
        found = _WEEK_TIMES.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise wrong(expected, text)
        try:
            parts = (found[1] or "mon-sun").split(",")
            days = {day for one in parts for day in _days(one)}
            wire = {"days": sorted(days), "start": found[2], "end": found[3]}
            return cls(parse_window(wire))
        except (ValueError, PolicyError) as error:
            raise wrong(expected, text) from error


def _days(text: str) -> list[int]:
    """Return the days of ``wed`` or ``fri-mon``, Monday 0."""
    first, _, last = text.partition("-")
    start = _DAYS.index(first)
    length = (_DAYS.index(last or first) - start) % len(_DAYS)
    return [(start + one) % len(_DAYS) for one in range(length + 1)]


@dataclass(frozen=True, slots=True, order=True)
class Percent:
    """A share, written ``10%``; 150% of a processor is one and a half of them."""

    value: float

    @property
    def fraction(self) -> float:
        """The same with one as the whole."""
        return self.value / 100

    def __str__(self) -> str:
        return f"{self.value:g}%"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse a share.

        >>> Percent.parse("150%").fraction
        1.5

        Raises:
            ValueError: Another form.
        """
        found = _PERCENT.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise wrong("a share like 10%", text)
        return cls(float(found[1]))


def bounded(default: _T, low: float, high: float) -> _T:
    """Declare a field of a configuration with its smallest and largest value.

    A duration is bounded in seconds, a size in bytes, a share in percent.
    """
    return field(default=default, metadata={BOUNDS: (low, high)})


def magnitude(value: object) -> float | None:
    """Return the number that bounds are about; None where there is none.

    >>> magnitude(Size(512))
    512
    """
    if isinstance(value, Duration):
        return value.seconds
    if isinstance(value, Size):
        return value.bytes
    if isinstance(value, Percent):
        return value.value
    return value if isinstance(value, int | float) else None


def wrong(expected: str, found: object) -> ValueError:
    """Return the error of a value that is not what its key expects."""
    return ValueError(f"expected {expected}, found {found!r}")
