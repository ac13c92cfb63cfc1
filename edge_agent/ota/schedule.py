# SPDX-License-Identifier: Apache-2.0
"""Maintenance windows in the device's own time: is one open, and when is the next.

Owns what a window means where a clock jumps. Wall time decides: in an hour that comes
twice a window is open twice, and a start that the clock skips opens as much later. Pure
but for ``load_zone``, which reads the zone of the system.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_contract.errors import ConfigError
from edge_contract.update_policy import MINUTES_A_DAY, MaintenanceWindow

SYSTEM_ZONE: Final = Path("/etc/localtime")
_AHEAD_DAYS: Final = 9  # a week, the day before, and a start that was skipped
_SECOND_US: Final = 1_000_000


def is_open(windows: Sequence[MaintenanceWindow], now: datetime) -> bool:
    """Return whether ``now``, in the device's zone, is inside a window.

    >>> night = MaintenanceWindow((4,), 22 * 60, 6 * 60)  # Friday to Saturday
    >>> is_open([night], datetime(2026, 11, 28, 5, 59)), is_open([night],
    ...                                                  datetime(2026, 11, 28, 6))
    (True, False)
    """
    minute = now.hour * 60 + now.minute
    today, yesterday = now.weekday(), (now.weekday() - 1) % 7
    for one in windows:
        length = (one.end - one.start - 1) % MINUTES_A_DAY + 1
        if today in one.days and one.start <= minute < one.start + length:
            return True
        if yesterday in one.days and minute + MINUTES_A_DAY < one.start + length:
            return True
    return False


def next_opening_us(
    windows: Sequence[MaintenanceWindow], now_us: int, zone: tzinfo
) -> int:
    """Return when a window is open next: ``now_us`` itself where one is.

    Args:
        windows: At least one.
        now_us: Microseconds since the epoch.
        zone: The device's.
    """
    now = datetime.fromtimestamp(now_us / _SECOND_US, UTC)
    if is_open(windows, now.astimezone(zone)):
        return now_us
    midnight = now.astimezone(zone).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=None
    )
    starts = (
        (midnight + timedelta(days=ahead, minutes=one.start)).replace(tzinfo=zone)
        for ahead in range(_AHEAD_DAYS)
        for one in windows
        if (midnight.weekday() + ahead) % 7 in one.days
    )
    openings = (one.astimezone(UTC) for one in starts)
    later = [
        one for one in openings if one > now and is_open(windows, one.astimezone(zone))
    ]
    return int(min(later).timestamp()) * _SECOND_US if later else now_us


def load_zone(name: str) -> tzinfo:
    """Return a zone by its name; empty: that of the system, else UTC.

    Raises:
        ConfigError: The device knows no such zone.
    """
    try:
        if name:
            return ZoneInfo(name)
        with SYSTEM_ZONE.open("rb") as stream:
            return ZoneInfo.from_file(stream)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        if not name:
            return UTC
        raise ConfigError(
            f"update.time_zone: expected a zone that this device knows, found {name!r}",
            next_step="install tzdata, or leave it out for the system's zone",
        ) from error
