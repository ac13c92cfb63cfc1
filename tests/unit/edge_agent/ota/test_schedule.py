# SPDX-License-Identifier: Apache-2.0
"""Windows in the device's own time: midnight, the week's end, clocks that jump."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ota.schedule import is_open, load_zone, next_opening_us
from edge_contract.errors import ConfigError
from edge_contract.update_policy import MaintenanceWindow

PARIS = ZoneInfo("Europe/Paris")
EVERY_DAY = tuple(range(7))
NIGHT = MaintenanceWindow(EVERY_DAY, 22 * 60, 6 * 60)
SUNDAY = MaintenanceWindow((6,), 23 * 60, 60)


def us(text: str, zone: ZoneInfo = PARIS) -> int:
    at = datetime.fromisoformat(text)
    at = at if at.tzinfo else at.replace(tzinfo=zone)
    return int(at.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        (NIGHT, "2026-11-26T12:00", "2026-11-26T22:00"),
        (NIGHT, "2026-11-26T23:59", "2026-11-26T23:59"),
        (NIGHT, "2026-11-27T00:00", "2026-11-27T00:00"),
        (NIGHT, "2026-11-27T05:59", "2026-11-27T05:59"),
        (NIGHT, "2026-11-27T06:00", "2026-11-27T22:00"),
        (SUNDAY, "2026-11-29T22:59", "2026-11-29T23:00"),
        (SUNDAY, "2026-11-30T00:59", "2026-11-30T00:59"),  # Monday, of Sunday's
        (SUNDAY, "2026-11-30T01:00", "2026-12-06T23:00"),
        (MaintenanceWindow((3,), 600, 600), "2026-11-26T10:00", "2026-11-26T10:00"),
        (MaintenanceWindow((3,), 600, 600), "2026-11-27T09:59", "2026-11-27T09:59"),
        (MaintenanceWindow((3,), 600, 600), "2026-11-27T10:00", "2026-12-03T10:00"),
        (MaintenanceWindow((3,), 720, 0), "2026-11-26T23:59", "2026-11-26T23:59"),
        (MaintenanceWindow((3,), 720, 0), "2026-11-27T00:00", "2026-12-03T12:00"),
    ],
)
def test_a_window_opens(window: MaintenanceWindow, now: str, opens: str) -> None:
    assert next_opening_us([window], us(now), PARIS) == us(opens)


def test_the_first_of_several_counts() -> None:
    found = next_opening_us([NIGHT, SUNDAY], us("2026-11-29T21:00"), PARIS)
    assert found == us("2026-11-29T22:00")


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    early = MaintenanceWindow(EVERY_DAY, 150, 165)  # 02:30 to 02:45
    first = us("2026-10-25T02:30+02:00")
    assert next_opening_us([early], us("2026-10-25T01:00+02:00"), PARIS) == first
    for at in ("2026-10-25T02:40+02:00", "2026-10-25T02:40+01:00"):
        assert next_opening_us([early], us(at), PARIS) == us(at)


def test_a_start_that_the_clock_skips_opens_as_much_later() -> None:
    early = MaintenanceWindow(EVERY_DAY, 150, 300)  # 02:30 to 05:00
    found = next_opening_us([early], us("2026-03-29T01:00+01:00"), PARIS)
    assert found == us("2026-03-29T03:30+02:00")
    gone = MaintenanceWindow((6,), 130, 170)  # wholly inside the hour that is skipped
    found = next_opening_us([gone], us("2026-03-29T01:00+01:00"), PARIS)
    assert found == us("2026-04-05T02:10")


@given(
    st.lists(
        st.builds(
            MaintenanceWindow,
            st.sets(st.integers(0, 6), min_size=1).map(lambda one: tuple(sorted(one))),
            st.integers(0, 1439),
            st.integers(0, 1439),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1_767_225_600, 1_830_297_600),
    st.sampled_from(["Europe/Paris", "America/St_Johns", "Asia/Kathmandu", "UTC"]),
)
def test_it_is_open_then_and_not_a_minute_before(
    windows: list[MaintenanceWindow], at: int, name: str
) -> None:
    zone, now = ZoneInfo(name), datetime.fromtimestamp(at // 60 * 60, UTC)
    now_us = int(now.timestamp()) * 1_000_000
    opens = datetime.fromtimestamp(next_opening_us(windows, now_us, zone) / 1e6, UTC)
    assert now <= opens <= now + timedelta(days=9)
    assert is_open(windows, opens.astimezone(zone))
    before = opens - timedelta(minutes=1)
    # In the hour after a jump a skipped start may have let a window open earlier.
    is_jump = (opens - timedelta(hours=3)).astimezone(zone).utcoffset() != (
        opens.astimezone(zone).utcoffset()
    )
    if opens > now and not is_jump:
        assert not is_open(windows, before.astimezone(zone))


def test_zones_go_by_name() -> None:
    assert load_zone("Europe/Paris") == PARIS
    assert datetime.now(load_zone("")).utcoffset() is not None
    for name in ("Europe/Atlantis", "../../etc/passwd", "/etc/localtime"):
        with pytest.raises(ConfigError, match=r"update\.time_zone"):
            load_zone(name)
