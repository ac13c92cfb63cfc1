# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from edge_contract.varint import encode_counts
from edge_contract.window import WindowStatistics, merge
from edge_contract.window_report import encode_blocks
from fleet.ingest.marks import Marks
from fleet.ingest.marks_store import read_marks
from fleet.store.counters import read_counter
from fleet.store.devices import find_device
from fleet.store.engine import reading, writing
from fleet.store.statistics import statistics_from_columns
from fleet.store.tables import events, kept_apart, refusals, rollups, windows
from fleet.store.windows import find_rollup, find_totals, list_windows_since
from tests.support.fleet_device import FakeDevice
from tests.support.fleet_world import NOW_US, FleetWorld


@pytest.fixture
def world(tmp_path: Path) -> FleetWorld:
    return FleetWorld(tmp_path)


def count_windows(world: FleetWorld) -> int:
    with reading(world.engine) as connection:
        return connection.execute(
            select(func.count()).select_from(windows)
        ).scalar_one()


def read_refusals(world: FleetWorld) -> dict[tuple[str, str], int]:
    with reading(world.engine) as connection:
        rows = connection.execute(select(refusals)).mappings().all()
    return {(row["reason"], row["device"]): row["count"] for row in rows}


def read_totals(world: FleetWorld, device: str = "watch-1") -> dict[str, int]:
    with reading(world.engine) as connection:
        row = find_totals(connection, device)
    assert row is not None
    return {name: row[name] for name in ("windows", "inferences", "lost", "duplicates")}


def test_a_window_is_counted_once_however_often_it_comes(world: FleetWorld) -> None:
    device = world.device()

    world.ingest(device.window(1), device.window(1), device.window(2, lost=3))
    world.ingest(device.window(2, lost=3), device.window(1))

    assert count_windows(world) == 2
    assert read_totals(world) == {
        "windows": 2,
        "inferences": 128,
        "lost": 3,
        "duplicates": 3,
    }
    assert world.confirmed == [0, 1, 2, 3, 4]
    assert world.outcomes[-1].touched == {("watch-1", device.boot_id)}


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=st.permutations([1, 2, 3, 4, 5, 1, 3, 5]), cut=st.integers(0, 8))
def test_order_and_repetition_change_nothing(
    world: FleetWorld, order: list[int], cut: int
) -> None:
    boot = len(world.outcomes) + 1
    device = world.device(boot=boot)
    before = count_windows(world)

    for part in (order[:cut], order[cut:]):
        world.ingest(*(device.window(seq) for seq in part))

    assert count_windows(world) == before + 5
    with reading(world.engine) as connection:
        marks = read_marks(connection, ("watch-1", device.boot_id))
    assert marks == Marks(mark=5)


def test_rollups_are_the_exact_sum(world: FleetWorld) -> None:
    device, layout = world.device(), world.device().profile.layout
    world.ingest(*(device.window(seq, rows=40 + seq) for seq in range(1, 6)))

    with reading(world.engine) as connection:
        ref_id = device.profile.ref_id
        rows = list_windows_since(connection, "watch-1", ref_id, 0, limit=99)
        total = find_rollup(connection, "watch-1", ref_id, level="all", bucket_us=0)

    expected = reduce(
        lambda a, b: merge(a, b, layout),
        (statistics_from_columns(row, layout) for row in rows),
    )
    assert total is not None
    found = statistics_from_columns(total, layout)
    assert total["windows"] == 5
    assert found.rows == expected.rows == 215
    assert (found.counts == expected.counts).all()
    assert np.allclose(found.mean, expected.mean, rtol=1e-9, atol=0)
    assert np.allclose(found.m2, expected.m2, rtol=1e-9, atol=0)


def test_a_wrong_mac_is_refused_and_counted(world: FleetWorld) -> None:
    device = world.device()
    topic, data = device.window(1)

    world.ingest((topic, data[:-1] + bytes([data[-1] ^ 1])))

    assert read_refusals(world) == {("mac", "watch-1"): 1}
    assert count_windows(world) == 0


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("edge/1/default/watch-2/up/window", ("mac", "watch-2")),
        ("edge/1/default/watch-1/up/event", ("mac", "watch-1")),
        ("edge/1/other/watch-1/up/window", ("wrong-fleet", "watch-1")),
        ("edge/1/default/watch-9/up/window", ("unknown-device", "")),
        ("edge/1/default/watch-1/down/cmd", ("topic", "")),
        ("elsewhere", ("topic", "")),
    ],
)
def test_a_moved_message_is_refused(
    world: FleetWorld, topic: str, reason: tuple[str, str]
) -> None:
    _, data = world.device().window(1)

    world.ingest((topic, data))

    assert read_refusals(world) == {reason: 1}
    assert count_windows(world) == 0


def test_odd_messages_do_not_harm_their_neighbours(world: FleetWorld) -> None:
    device = world.device()
    topic, _ = device.window(1)
    other_epoch = FakeDevice("watch-1", world.ring.find("watch-1", 2))

    world.ingest(
        (topic, b""),
        (topic, device.seal_for(topic, b"\xff")),
        other_epoch.window(1),
        device.window(1),
    )

    assert read_refusals(world) == {
        ("envelope", "watch-1"): 1,
        ("malformed", "watch-1"): 1,
        ("key-epoch", "watch-1"): 1,
    }
    assert count_windows(world) == 1
    assert world.confirmed == [0, 1, 2, 3]


def test_windows_that_cannot_be_used_are_kept_apart_and_marked(
    world: FleetWorld,
) -> None:
    device = world.device()
    bad = replace(device.report(2), rows=65)

    world.ingest(device.window(1, ref_id=b"unknown!"), device.seal(bad))

    with reading(world.engine) as connection:
        query = select(kept_apart.c.seq, kept_apart.c.reason)
        found = [tuple(row) for row in connection.execute(query)]
        marks = read_marks(connection, ("watch-1", device.boot_id))
    assert found == [(1, "unknown-ref-id"), (2, "inconsistent")]
    assert marks == Marks(mark=2)
    assert count_windows(world) == 0


def test_a_sum_that_is_too_large_keeps_the_window_apart(world: FleetWorld) -> None:
    device, layout = world.device(), world.device().profile.layout
    world.ingest(device.window(1))
    key = ("watch-1", device.profile.ref_id)
    with writing(world.engine) as connection:
        full = np.full(layout.size, 2**53 - 1, dtype=np.int64)
        connection.execute(
            update(rollups).values(counts=encode_counts(full), rows=2**53)
        )

    world.ingest(device.window(2), device.window(3))

    assert read_refusals(world) == {("overflow", "watch-1"): 2}
    assert count_windows(world) == 1
    with reading(world.engine) as connection:
        total = find_rollup(connection, *key, level="all", bucket_us=0)
        marks = read_marks(connection, ("watch-1", device.boot_id))
    assert total is not None
    assert total["windows"] == 1
    assert marks == Marks(mark=3)


def test_a_merged_window_marks_and_counts_what_it_covers(world: FleetWorld) -> None:
    device = world.device()

    world.ingest(device.window(1), device.window(6, rows=128, covers=(2, 3, 4, 5)))

    with reading(world.engine) as connection:
        marks = read_marks(connection, ("watch-1", device.boot_id))
    assert marks == Marks(mark=6)
    assert read_totals(world)["windows"] == 4


def test_a_window_that_covers_a_committed_one_is_not_counted(
    world: FleetWorld,
) -> None:
    device = world.device()

    world.ingest(device.window(1), device.window(3, covers=(1, 2)))

    assert read_totals(world)["windows"] == 1
    assert read_refusals(world) == {("covers-committed", "watch-1"): 1}


def test_a_seq_far_ahead_is_not_acknowledged_until_a_birth_explains_it(
    world: FleetWorld,
) -> None:
    device = world.device()
    world.ingest(device.window(9000))
    assert read_refusals(world) == {("too-far-ahead", "watch-1"): 1}

    world.ingest(device.birth(seq=9001, lowest_seq=9000), device.window(9000))

    assert count_windows(world) == 1
    with reading(world.engine) as connection:
        marks = read_marks(connection, ("watch-1", device.boot_id))
    assert marks == Marks(mark=9001)
    assert world.outcomes[-1].births == ["watch-1"]


def test_a_window_of_an_unsynced_clock_is_timed_from_its_receipt(
    world: FleetWorld,
) -> None:
    device = world.device()
    world.ingest(device.window(1, clock_synced=False, start_us=5))

    with reading(world.engine) as connection:
        row = connection.execute(select(windows)).mappings().one()
        hours = find_rollup(
            connection, "watch-1", device.profile.ref_id, level="hour", bucket_us=0
        )
    assert row["retimed"]
    assert row["start_us"] == NOW_US - 1_280_000
    assert hours is None


def test_only_fresh_messages_move_presence(world: FleetWorld) -> None:
    device = world.device()
    heartbeat = device.state(online=True, time_us=10)
    world.ingest(heartbeat, device.event(1))
    world.clock.now_us += 60_000_000

    world.ingest(heartbeat, device.event(1))  # replayed
    with reading(world.engine) as connection:
        row = find_device(connection, "watch-1")
        stored = connection.execute(select(func.count()).select_from(events))
        assert stored.scalar_one() == 1
    assert (row["last_seen_us"], row["online_hint"]) == (NOW_US, True)

    world.ingest(device.state(online=False, time_us=10))
    with reading(world.engine) as connection:
        row = find_device(connection, "watch-1")
    assert (row["last_seen_us"], row["online_hint"]) == (NOW_US, False)


def test_private_windows_are_stored_with_their_negative_counts(
    world: FleetWorld,
) -> None:
    device = world.device()
    layout = device.profile.layout
    reports = []
    for seq in (1, 2):
        sums = device.report(seq).sums(layout)
        counts = sums.counts - 20
        counts[layout.below.start : layout.repeat.stop] = 0
        noised = replace(sums, counts=counts, epsilon_millionths=250_000)
        count_block, moment_block = encode_blocks(noised)
        reports.append(
            device.report(
                seq,
                count_block=count_block,
                moment_block=moment_block,
                epsilon_millionths=250_000,
            )
        )

    world.ingest(*(device.seal(one) for one in reports), device.window(3))

    with reading(world.engine) as connection:
        ref_id = device.profile.ref_id
        rows = list_windows_since(connection, "watch-1", ref_id, 0, limit=9)
        total = find_rollup(connection, "watch-1", ref_id, level="all", bucket_us=0)
    found = [statistics_from_columns(row, layout) for row in rows]
    assert [one.epsilon_millionths for one in found] == [250_000, 250_000, 0]
    assert int(found[0].counts.min()) < 0
    assert total is not None
    summed = statistics_from_columns(total, layout)
    expected = np.sum([one.counts for one in found], axis=0)
    assert summed.counts.tolist() == expected.tolist()
    assert read_refusals(world) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ref_id": b"unknown!"}, "unknown-ref-id"),
        ({"lost": 2**63 - 1}, "inconsistent"),
        ({"failed": 2**63 - 1}, "inconsistent"),
        ({"rows": 2**63 - 1}, "inconsistent"),
        ({"inferences": 0}, "inconsistent"),
        ({"count_block": b""}, "inconsistent"),
        ({"count_block": b"\xff" * 200}, "inconsistent"),
        ({"moment_block": b"\xff" * 24}, "inconsistent"),
        ({"epsilon_millionths": 2**63 - 1}, "inconsistent"),
        ({"feedback_block": b"\x01" * 16}, "inconsistent"),
        ({"feedback_block": b"\x00" * 16 + b"\x01" * 16}, "inconsistent"),
    ],
    ids=str,
)
def test_each_bad_window_is_kept_apart_and_ingest_goes_on(
    world: FleetWorld, change: dict[str, Any], reason: str
) -> None:
    device = world.device()
    bad = [device.seal(replace(device.report(seq), **change)) for seq in (2, 4)]

    world.ingest(device.window(1), bad[0], device.window(3))
    world.ingest(bad[1], device.window(5))

    assert read_refusals(world) == {(reason, "watch-1"): 2}
    assert count_windows(world) == 3
    assert read_totals(world)["lost"] == 0
    with reading(world.engine) as connection:
        marks = read_marks(connection, ("watch-1", device.boot_id))
    assert marks == Marks(mark=5)


def test_a_billion_rows_and_none_at_all_are_windows(world: FleetWorld) -> None:
    device = world.device()
    sums = device.report(1).sums(device.profile.layout)
    counts, moments = encode_blocks(replace(sums, counts=sums.counts * 2**24))
    large = replace(
        device.report(1),
        rows=2**30,
        inferences=2**30,
        lost=2**40,
        count_block=counts,
        moment_block=moments,
    )
    nothing = WindowStatistics.empty(device.profile)
    counts, moments = encode_blocks(nothing)
    empty = replace(
        device.report(2),
        rows=0,
        inferences=0,
        count_block=counts,
        moment_block=moments,
    )

    world.ingest(device.seal(large), device.seal(empty))
    for boot in range(2, 12):
        other = world.device(boot=boot)
        world.ingest(other.seal(replace(large, boot_id=other.boot_id)))

    assert count_windows(world) == 12
    assert read_totals(world)["inferences"] == 11 * 2**30
    assert read_totals(world)["lost"] == 11 * 2**40
    assert read_refusals(world) == {}


def test_a_seq_that_comes_again_with_other_counts_is_told_apart(
    world: FleetWorld,
) -> None:
    device = world.device()
    other = replace(device.report(2), seq=1)

    world.ingest(device.window(1), device.seal(other), device.window(1))

    assert count_windows(world) == 1
    assert read_totals(world)["duplicates"] == 2
    assert read_refusals(world) == {("other-content", "watch-1"): 1}


@pytest.mark.parametrize(
    "change",
    [
        {"start_us": NOW_US + 25 * 3_600_000_000},
        {"start_us": 2**63 - 1, "duration_us": 2**63 - 1},
        {"duration_us": 2**63 - 1},
        {"monotonic_us": 2**63 - 1, "clock_synced": False, "start_us": 2**63 - 1},
    ],
    ids=str,
)
def test_the_time_of_a_mad_clock_is_not_believed(
    world: FleetWorld, change: dict[str, int]
) -> None:
    device = world.device()

    world.ingest(device.window(1, **change))

    with reading(world.engine) as connection:
        row = connection.execute(select(windows)).mappings().one()
    assert row["retimed"]
    assert 0 <= row["start_us"] <= NOW_US
    assert read_totals(world)["windows"] == 1


def test_a_floor_that_nothing_lies_above_is_not_taken(world: FleetWorld) -> None:
    device = world.device()

    world.ingest(device.birth(1, 1, down_floor=2**63 - 1))

    assert read_refusals(world) == {("down-floor", "watch-1"): 1}
    with reading(world.engine) as connection:
        assert read_counter(connection, "down_seq/watch-1") == 0
    world.ingest(device.birth(2, 2, down_floor=77))
    with reading(world.engine) as connection:
        assert read_counter(connection, "down_seq/watch-1") == 77
