# SPDX-License-Identifier: Apache-2.0
"""Updates that wait, and updates that another takes the place of."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.ota.deferral import Terms
from edge_agent.ota.fetch import (
    InterruptedFetchError,
)
from edge_agent.ota.machine import Journal, UpdateRecord, UpdateState
from edge_agent.ota.slots import Slots
from edge_contract.bundle import Bundle
from tests.support.faulty_server import Fault
from tests.support.manual_clock import ManualClock
from tests.support.tuf_repository import rule
from tests.support.update_world import (
    TARGET,
    World,
    install,
    new_updater,
    offer,
    open_world,
    want,
    want_by_delta,
)

NIGHT = {"days": [0, 1, 2, 3, 4, 5, 6], "start": "22:00", "end": "06:00"}
NOON_US = int(datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()) * 1_000_000
HOUR_US = 3_600_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as one:
        yield one


def test_a_closed_window_defers_and_an_open_one_goes_on(world: World) -> None:
    world.release(1)
    want(world, 1, 2, windows=[NIGHT])
    clock = ManualClock(NOON_US)
    record = world.update(clock=clock)
    assert record.state is UpdateState.DEFERRED
    assert record.reason == "agent.update.window"
    assert record.fields == {"deferred_until_us": NOON_US + 10 * HOUR_US}
    assert not world.server.requests
    before = world.journal.path.stat().st_mtime_ns
    assert world.update(clock=clock) == record
    assert world.journal.path.stat().st_mtime_ns == before  # and nothing to report
    clock.now_us += 10 * HOUR_US
    record = world.update(clock=clock)
    assert record.is_ready
    assert (record.attempt, record.reason) == (1, "")
    assert "deferred_until_us" not in record.fields


def test_urgent_and_now_do_not_wait(world: World) -> None:
    world.release(1)
    want(world, 1, 2, windows=[NIGHT])
    clock = ManualClock(NOON_US)
    assert world.update(clock=clock).state is UpdateState.DEFERRED
    assert world.update(clock=clock, is_now=True).is_ready
    world.release(2)
    want(world, 2, 3, windows=[NIGHT], urgent=True)
    record = world.update(clock=clock)
    assert record.is_ready
    assert record.release_counter == 2


def test_a_release_that_is_here_waits_for_its_window_too(world: World) -> None:
    first = world.release(1)
    install(world)
    world.release(2)
    install(world)
    want(world, 1, 3, windows=[NIGHT])
    clock = ManualClock(NOON_US)
    assert world.update(clock=clock).state is UpdateState.DEFERRED
    clock.now_us += 10 * HOUR_US
    record = world.update(clock=clock)
    assert record.is_ready
    assert record.digest == first


def test_a_metered_link_takes_a_delta_only(world: World) -> None:
    terms = Terms(is_metered=lambda: True)
    world.release(1)
    install(world)
    world.release(2)
    want(world, 2, 200, metered="deltas")
    record = world.update(terms=terms)
    assert record.reason == "agent.update.metered"
    assert record.fields == {}
    found = offer(world, 1, 2)
    with Bundle.open(world.scratch / "2.bundle") as bundle:
        digest = bundle.digest
    wanted = rule("models/toy-2.bundle", digest, 2, policy={"metered": "deltas"})
    world.repository.set_desired(201, {**wanted, "deltas": [found]})
    world.repository.publish()
    record = world.update(terms=terms)
    assert record.is_ready
    assert record.downloaded_bytes == found["bytes"]


def test_a_broken_delta_over_a_metered_link_defers(world: World) -> None:
    world.release(1)
    install(world)
    world.release(2)
    found = offer(world, 1, 2)
    (world.repository.folder / "targets" / str(found["path"])).unlink()
    want_by_delta(world, 2, found)
    before = world.server.body_bytes
    terms = Terms(is_metered=lambda: True, metered="deltas")
    assert world.update(terms=terms).reason == "agent.update.metered"
    assert world.server.body_bytes == before
    assert world.update().is_ready


def test_a_spent_day_keeps_what_came_and_goes_on_tomorrow(world: World) -> None:
    world.release(1)
    size = (world.scratch / "1.bundle").stat().st_size
    clock, terms = ManualClock(NOON_US), Terms(daily_bytes=size // 2)
    record = world.update(clock=clock, terms=terms)
    assert record.state is UpdateState.DEFERRED
    assert record.reason == "agent.update.budget"
    assert record.fields == {"deferred_until_us": NOON_US + 12 * HOUR_US}
    assert record.downloaded_bytes == size // 2
    assert world.update(clock=clock, terms=terms) == record
    days = 1
    while not (record := world.update(clock=clock, terms=terms)).is_ready:
        assert days < 4
        clock.now_us += 24 * HOUR_US
        days += 1
    assert record.downloaded_bytes == size
    assert record.attempt == 1
    assert all(one is None or "bytes=" in one for _, one in world.server.requests)


def test_a_full_disk_waits_for_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release(1)
    with monkeypatch.context() as patch:
        patch.setattr("edge_agent.ota.fetch.free_bytes", lambda _: 100)
        record = world.update()
    assert record.state is UpdateState.DEFERRED
    assert record.reason == "agent.update.disk-full"
    assert "100" in record.detail
    assert not world.server.requests
    assert world.update().is_ready


def test_a_server_that_asks_for_patience_gets_it(world: World) -> None:
    world.release(1)
    clock = ManualClock(NOON_US)
    world.server.faults.append(Fault(status=503, retry_after="7200"))
    record = world.update(clock=clock)
    assert record.reason == "agent.update.server-busy"
    assert record.fields == {"deferred_until_us": NOON_US + 2 * HOUR_US}
    world.server.faults.append(
        Fault(status=429, retry_after="Thu, 26 Nov 2026 13:00:00 GMT")
    )
    record = world.update(clock=clock)
    assert record.fields == {"deferred_until_us": NOON_US + HOUR_US}
    assert world.update(clock=clock).is_ready


@pytest.mark.parametrize("where", ["deferred", "downloading", "ready"])
def test_a_newer_release_takes_the_place_of_an_older_one(
    world: World, where: str
) -> None:
    old = world.release(1)
    clock = ManualClock(NOON_US)
    if where == "deferred":
        want(world, 1, 2, windows=[NIGHT])
        world.update(clock=clock)
    elif where == "downloading":
        world.server.faults.append(Fault(cut_after=900))
        killed = Terms(daily_bytes=900)
        world.update(clock=clock, terms=killed)
        assert (world.slot_dir / "part" / "bundle.part").stat().st_size == 900
    else:
        assert world.update(clock=clock).is_ready
    new = world.release(3)
    record = world.update(clock=clock)
    assert record.is_ready
    assert (record.digest, record.attempt) == (new, 1)
    before = world.journal.superseded
    assert before is not None
    assert (before.digest, before.state) == (old, UpdateState.SUPERSEDED)
    assert before.reason == "agent.update.superseded"
    told: list[UpdateRecord] = []
    updater = new_updater(world, told)
    updater.poll()
    assert [one.digest for one in told] == [old, new]
    updater.begin_trial()
    updater.committed()
    assert Journal(world.journal.path).superseded is None
    assert not Slots(world.slot_dir).holds(old)


def test_what_is_wanted_no_more_ends_before_its_trial(world: World) -> None:
    first = world.release(1)
    install(world)
    world.release(2)
    assert world.update().is_ready
    world.repository.set_desired(3, rule(TARGET, first, 1))  # the rollout was halted
    world.repository.publish()
    record = world.update()
    assert record.state is UpdateState.SUPERSEDED
    updater = new_updater(world)
    assert updater.poll() is None
    updater.close()


def test_a_paused_rollout_keeps_what_was_fetched(world: World) -> None:
    world.release(1)
    size = (world.scratch / "1.bundle").stat().st_size
    world.update(terms=Terms(daily_bytes=900))
    world.repository.set_desired(3)
    world.repository.publish()
    assert world.update().state is UpdateState.SUPERSEDED
    want(world, 1, 4)
    record = world.update()
    assert record.is_ready
    assert record.downloaded_bytes == size - 900


def test_a_delta_goes_on_after_a_network_that_broke(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.ota.fetch.MAX_ATTEMPTS", 1)
    world.release(1)
    install(world)
    world.release(2)
    found = offer(world, 1, 2)
    digest = want_by_delta(world, 2, found)
    world.server.faults.append(Fault(cut_after=100))
    with pytest.raises(InterruptedFetchError):
        world.update()
    assert (world.slot_dir / "part" / "delta.part").stat().st_size == 100
    record = world.update()
    assert record.is_ready
    assert record.digest == digest
    assert record.downloaded_bytes == int(str(found["bytes"])) - 100
