# SPDX-License-Identifier: Apache-2.0
"""What holds an update up: windows, links, and the bytes of a day."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.ota.deferral import (
    DaySpentError,
    Gate,
    MeteredError,
    Terms,
    WindowClosedError,
)
from edge_agent.ota.link import is_metered
from edge_agent.ota.spending import BLOCK_BYTES, Spending
from edge_contract.update_policy import MaintenanceWindow, Metered, UpdatePolicy
from tests.support.manual_clock import ManualClock

NOON_US = int(datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()) * 1_000_000
MIDNIGHT_US = NOON_US + 12 * 3_600_000_000
NIGHT = MaintenanceWindow(tuple(range(7)), 22 * 60, 6 * 60)
METERED = Terms(is_metered=lambda: True)
DAY = Terms(daily_bytes=3 * BLOCK_BYTES)


def gate(
    terms: Terms | None = None,
    policy: UpdatePolicy | None = None,
    *,
    is_now: bool = False,
) -> Gate:
    clock = ManualClock(NOON_US)
    return Gate(terms or Terms(), policy or UpdatePolicy(), clock, is_now=is_now)


def test_a_closed_window_holds_up_until_it_opens() -> None:
    for one in (
        gate(Terms(windows=(NIGHT,))),
        gate(policy=UpdatePolicy(windows=(NIGHT,))),
    ):
        with pytest.raises(WindowClosedError, match="22:00") as caught:
            one.check_time()
        assert caught.value.until_us == NOON_US + 10 * 3_600_000_000


def test_what_does_not_wait_for_a_window() -> None:
    told = Terms(windows=(NIGHT,))
    gate().check_time()
    gate(told, UpdatePolicy(windows=())).check_time()
    gate(told, UpdatePolicy(urgent=True)).check_time()
    gate(told, is_now=True).check_time()
    noon = UpdatePolicy(windows=(MaintenanceWindow((3,), 12 * 60, 13 * 60),))
    gate(told, noon).check_time()


@pytest.mark.parametrize(
    ("device", "rule", "whole", "delta"),
    [
        ("allow", None, True, True),
        ("defer", None, False, False),
        ("deltas", None, False, True),
        ("defer", "allow", True, True),
        ("allow", "deltas", False, True),
        ("allow", "defer", False, False),
    ],
)
def test_a_metered_link(
    device: Metered, rule: Metered | None, *, whole: bool, delta: bool
) -> None:
    terms = replace(METERED, metered=device)
    one = gate(terms, UpdatePolicy(metered=rule))
    for is_delta, is_allowed in ((False, whole), (True, delta)):
        if is_allowed:
            one.check_link(is_delta=is_delta)
        else:
            with pytest.raises(MeteredError, match="metered"):
                one.check_link(is_delta=is_delta)
    replace(one, terms=replace(terms, is_metered=lambda: False)).check_link(
        is_delta=False
    )
    replace(one, is_now=True).check_link(is_delta=False)


def take_all(spending: Spending, wanted: int) -> int:
    taken = 0
    while taken < wanted:
        count = min(64 * 1024, spending.take(wanted - taken))
        spending.took(count)
        taken += count
    return taken


def test_a_day_has_so_many_bytes_and_no_more(tmp_path: Path) -> None:
    one = gate(DAY)
    first = Spending(tmp_path, one, is_delta=False)
    assert take_all(first, BLOCK_BYTES + 5) == BLOCK_BYTES + 5
    first.close()
    assert json.loads((tmp_path / "budget.json").read_bytes())["bytes"] == (
        BLOCK_BYTES + 5
    )
    second = Spending(tmp_path, one, is_delta=False)
    take_all(second, 2 * BLOCK_BYTES - 5)
    with pytest.raises(DaySpentError, match="3145728 spent") as caught:
        second.take(1)
    assert caught.value.until_us == MIDNIGHT_US
    third = Spending(tmp_path, replace(one, is_now=True), is_delta=False)
    assert third.take(7) == 7
    tomorrow = replace(one, clock=ManualClock(MIDNIGHT_US))
    assert Spending(tmp_path, tomorrow, is_delta=False).take(7) == 7


def test_a_kill_costs_a_block_and_never_gives_one(tmp_path: Path) -> None:
    killed = Spending(tmp_path, gate(DAY), is_delta=False)
    killed.took(killed.take(100))
    left = Spending(tmp_path, gate(DAY), is_delta=False)
    take_all(left, 2 * BLOCK_BYTES)
    with pytest.raises(DaySpentError):
        left.take(1)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":1,"day":7}'])
def test_a_damaged_day_begins_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "budget.json").write_bytes(data)
    assert Spending(tmp_path, gate(DAY), is_delta=False).take(9) == 9


def test_a_clock_that_was_ahead_locks_no_day(tmp_path: Path) -> None:
    ahead = gate(replace(DAY, daily_bytes=10))
    ahead = replace(ahead, clock=ManualClock(NOON_US + 400 * 86_400_000_000))
    Spending(tmp_path, ahead, is_delta=False).take(10)
    assert Spending(tmp_path, gate(DAY), is_delta=False).take(9) == 9


def test_the_link_is_looked_at_at_each_block(tmp_path: Path) -> None:
    costs = [False, True]
    terms = Terms(metered="defer", is_metered=lambda: costs.pop(0))
    spending = Spending(tmp_path, gate(terms), is_delta=False)
    take_all(spending, BLOCK_BYTES)
    with pytest.raises(MeteredError):
        spending.take(1)


def test_bandwidth_is_kept_by_waiting(tmp_path: Path) -> None:
    slept: list[float] = []
    terms = Terms(bytes_a_second=1000)
    spending = Spending(tmp_path, gate(terms), is_delta=False, sleep=slept.append)
    for _ in range(5):
        spending.took(spending.take(10_000))
    assert sum(slept) == 5.0


HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
LAN = "eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0\n"
MODEM = "wwan0 00000000 0101A8C0 0003 0 0 700 00000000 0 0 0\n"
NEAR = "wwan0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
ZERO = "0" * 32
MODEM_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} 00000400 00000001 00000000 00450003 ppp0\n"
LOOP_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200 lo\n"


@pytest.mark.parametrize(
    ("routes", "routes_6", "found"),
    [
        (HEAD + LAN + MODEM, "", False),
        (HEAD + MODEM + NEAR, "", True),
        (HEAD + LAN + NEAR, MODEM_6, False),
        (HEAD + NEAR, MODEM_6 + LOOP_6, True),
        (HEAD, LOOP_6, False),
        ("", "", False),
        ("garbage", "more\nof it \xff", False),
    ],
)
def test_a_modem_is_metered(
    tmp_path: Path, routes: str, routes_6: str, *, found: bool
) -> None:
    tables = tmp_path / "route", tmp_path / "route6"
    tables[0].write_text(routes)
    tables[1].write_text(routes_6)
    assert is_metered(*tables) is found


def test_no_table_is_no_modem(tmp_path: Path) -> None:
    assert is_metered(tmp_path / "x", tmp_path / "y") is False
