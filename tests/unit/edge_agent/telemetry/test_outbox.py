# SPDX-License-Identifier: Apache-2.0
"""The outbox keeps every closed window, once, whatever happens."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import OutboxError
from edge_agent.telemetry.acks import is_marked
from edge_agent.telemetry.outbox import ROW_OVERHEAD_BYTES, Outbox
from edge_agent.telemetry.publisher import BULK_LANE, URGENT_LANE
from edge_contract.messages import Event, Reply, UpMessage, encode_message
from edge_contract.operations import Operations, count_latencies, encode_operations
from edge_contract.window_report import WindowReport
from tests.support.manual_clock import ManualClock
from tests.support.small_profile import small_profile, some_statistics, window_builder

PROFILE = small_profile()
PLENTY = 1 << 20
SLOT = "main"


def event(boot_id: bytes, seq: int) -> UpMessage:
    return Event(boot_id, seq, "test", "info", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    box = Outbox(path, PLENTY, ManualClock())
    box.remember_layout(PROFILE.ref_id, PROFILE.layout)
    yield box
    box.close()


def windows_of(outbox: Outbox) -> list[WindowReport]:
    rows = outbox.next_rows(BULK_LANE, 0, 10_000)
    return [WindowReport.decode(row.body) for row in rows]


def test_window_and_checkpoint_are_one_transaction(outbox: Outbox) -> None:
    outbox.save_checkpoint(SLOT, b"before")

    def fails(_boot_id: bytes, _seq: int) -> UpMessage:
        raise KeyError

    with pytest.raises(KeyError):
        outbox.close_window(SLOT, fails, b"after")
    assert outbox.load_checkpoint(SLOT) == b"before"
    assert outbox.pending == 0
    assert outbox.close_window(SLOT, window_builder(PROFILE, 1), b"after") == 1
    assert outbox.load_checkpoint(SLOT) == b"after"
    assert outbox.pending == 1


def test_a_file_opened_again_goes_on(path: Path) -> None:
    first = Outbox(path, PLENTY, ManualClock())
    first.append(URGENT_LANE, event)
    first.hand_over(1, URGENT_LANE)
    first.acknowledge(1, b"")
    assert first.raise_down_floor(7)
    boot_id = first.boot_id
    first.close()
    again = Outbox(path, PLENTY, ManualClock())
    assert again.boot_id == boot_id
    assert (again.handed, again.down_floor, again.lowest_seq) == (1, 7, 2)
    assert again.append(URGENT_LANE, event) == 2
    again.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_mark_of_an_older_agent_is_that_of_both_lanes(path: Path) -> None:
    first = Outbox(path, PLENTY, ManualClock())
    first.close_window(SLOT, window_builder(PROFILE, 1), b"")
    first.close()
    with closing(sqlite3.connect(path)) as found, found:
        found.execute("INSERT INTO meta VALUES ('handed', 1)")
    again = Outbox(path, PLENTY, ManualClock())
    assert again.handed == 1
    assert again.acknowledge(1, b"") == [1]
    again.close()


def test_urgent_rows_come_first_then_seq(outbox: Outbox) -> None:
    outbox.close_window(SLOT, window_builder(PROFILE, 1), b"")
    outbox.append(URGENT_LANE, event)
    outbox.close_window(SLOT, window_builder(PROFILE, 2), b"")
    lanes = [outbox.next_rows(lane, 0, 9) for lane in (URGENT_LANE, BULK_LANE)]
    assert [[row.seq for row in rows] for rows in lanes] == [[2], [1, 3]]
    assert outbox.next_rows(BULK_LANE, 1, 9)[0].seq == 3


def test_only_handed_rows_are_acknowledged(outbox: Outbox) -> None:
    for number in range(6):
        outbox.close_window(SLOT, window_builder(PROFILE, number), b"")
    outbox.hand_over(4)
    assert outbox.acknowledge(1, b"\x02") == [1, 3]
    assert outbox.acknowledge(99, b"") == [2, 4]
    assert [row.seq for row in outbox.next_rows(BULK_LANE, 0, 9)] == [5, 6]


def test_bitmap_bits_are_least_significant_first() -> None:
    marked = [seq for seq in range(1, 25) if is_marked(seq, 3, b"\x81\x01")]
    assert marked == [1, 2, 3, 4, 11, 12]


def test_a_full_outbox_merges_and_loses_no_count(path: Path) -> None:
    budget = 6000
    outbox = Outbox(path, budget, ManualClock())
    outbox.remember_layout(PROFILE.ref_id, PROFILE.layout)
    outbox.close_window(SLOT, window_builder(PROFILE, 0), b"")
    outbox.close_window(SLOT, window_builder(PROFILE, 1), b"")
    outbox.hand_over(2)
    handed = outbox.rows([1, 2])
    for number in range(2, 100):
        outbox.close_window(SLOT, window_builder(PROFILE, number), b"")
    assert outbox.held_bytes <= budget
    assert outbox.rows([1, 2]) == handed
    reports = windows_of_all(outbox)
    expected = sum(some_statistics(PROFILE, n).counts for n in range(100))
    found = sum(one.statistics(PROFILE).counts for one in reports)
    assert np.array_equal(found, expected)
    assert sum(len(one.covers) // 2 + 1 for one in reports) == 100
    named = [seq for one in reports for seq in (one.seq, *one.covers)]
    assert sorted(named) == list(range(1, max(named) + 1))
    assert outbox.lowest_seq == 1
    outbox.close()


def windows_of_all(outbox: Outbox) -> list[WindowReport]:
    rows = outbox.rows(range(1, 1000))
    return [WindowReport.decode(row.body) for row in rows if row.kind == "window"]


def test_lowest_seq_counts_what_a_merged_row_covers(path: Path) -> None:
    outbox = Outbox(path, 1000, ManualClock())
    outbox.remember_layout(PROFILE.ref_id, PROFILE.layout)
    for number in range(20):
        outbox.close_window(SLOT, window_builder(PROFILE, number), b"")
    (report,) = (one for one in windows_of_all(outbox) if 1 in one.covers)
    assert report.seq > 2
    assert outbox.lowest_seq == 1
    outbox.close()


def test_merging_keeps_how_the_device_fared(path: Path) -> None:
    outbox = Outbox(path, 100, ManualClock())
    outbox.remember_layout(PROFILE.ref_id, PROFILE.layout)
    for number in range(4):
        latency = count_latencies(np.array([5_000 << number], np.int64))
        block = encode_operations(
            Operations(latency, 10, queue=number, disk_free_mib=9 - number)
        )
        builder = window_builder(PROFILE, number, operation_block=block * (number < 3))
        outbox.close_window(SLOT, builder, b"")

    (report,) = windows_of_all(outbox)
    found = report.operations()

    assert found is not None
    assert (found.latency.sum(), found.elapsed_ms) == (3, 30)
    assert (found.queue, found.disk_free_mib, found.rss_kib) == (2, 7, None)
    outbox.close()


def test_other_releases_do_not_merge(path: Path) -> None:
    outbox = Outbox(path, 100, ManualClock())
    outbox.remember_layout(PROFILE.ref_id, PROFILE.layout)
    for number in range(6):
        release = bytes([number // 3] * 8)
        outbox.close_window(SLOT, window_builder(PROFILE, number, release=release), b"")
    reports = windows_of_all(outbox)
    assert sorted(one.release[0] for one in reports) == [0, 1]
    assert {one.rows for one in reports} == {24}
    outbox.close()


def test_an_urgent_message_is_refused_when_nothing_can_be_merged(path: Path) -> None:
    outbox = Outbox(path, 300, ManualClock())
    held = 300 // (len(encode_message(event(bytes(8), 1))) + ROW_OVERHEAD_BYTES)
    for _ in range(held):
        outbox.append(URGENT_LANE, event)
    with pytest.raises(OutboxError, match="at most 300 bytes"):
        outbox.append(URGENT_LANE, event)
    assert outbox.pending == held
    assert outbox.close_window(SLOT, window_builder(PROFILE, 1), b"") == held + 1
    outbox.close()


def test_a_birth_that_left_keeps_no_window_from_merging(path: Path) -> None:
    budget = 6000
    outbox = Outbox(path, budget, ManualClock())
    outbox.remember_layout(PROFILE.ref_id, PROFILE.layout)
    for number in range(100):
        outbox.close_window(SLOT, window_builder(PROFILE, number), b"")
        if number % 10 == 0:  # a connection a second, and none that lasts
            birth = outbox.replace_unsent(URGENT_LANE, "event", event)
            outbox.hand_over(birth, URGENT_LANE)
            outbox.acknowledge(0, b"")
    births = [row.body for row in outbox.next_rows(URGENT_LANE, 0, 99)]
    assert len(births) == 10
    assert outbox.held_bytes <= budget
    outbox.close()


def test_a_mark_that_the_disk_refused_is_not_believed(outbox: Outbox) -> None:
    outbox.close_window(SLOT, window_builder(PROFILE, 1), b"")
    refuse = "BEGIN SELECT RAISE(ABORT, 'full'); END"
    outbox._db.execute(f"CREATE TRIGGER refuse AFTER INSERT ON meta {refuse}")
    with pytest.raises(OutboxError, match="full"):
        outbox.hand_over(1)
    outbox._db.execute("DROP TRIGGER refuse")
    assert outbox.handed == 0
    assert outbox.acknowledge(1, b"") == []


def test_unacknowledged_rows_take_half_of_the_budget(path: Path) -> None:
    outbox = Outbox(path, 8000, ManualClock())
    for number in range(20):
        outbox.close_window(SLOT, window_builder(PROFILE, number), b"")
    rows = outbox.next_rows(BULK_LANE, 0, 20)
    assert 0 < sum(len(row.body) + 64 for row in rows) <= 4000
    outbox.hand_over(rows[-1].seq)
    assert outbox.next_rows(BULK_LANE, rows[-1].seq, 20) == []
    assert outbox.next_rows(BULK_LANE, 0, 20) == rows
    outbox.acknowledge(rows[-1].seq, b"")
    assert outbox.next_rows(BULK_LANE, rows[-1].seq, 1) != []
    outbox.close()


def test_a_birth_that_never_left_is_replaced(outbox: Outbox) -> None:
    first = outbox.replace_unsent(URGENT_LANE, "event", event)
    assert outbox.replace_unsent(URGENT_LANE, "event", event) == first
    outbox.hand_over(first, URGENT_LANE)
    assert outbox.replace_unsent(URGENT_LANE, "event", event) == first + 1


def test_a_command_is_answered_once(outbox: Outbox) -> None:
    def answer(boot_id: bytes, seq: int) -> UpMessage:
        return Reply(boot_id, seq, "c1", accepted=True)

    assert outbox.reply("c1", answer) == 1
    assert outbox.reply("c1", answer) is None
    assert outbox.is_answered("c1")
    assert not outbox.is_answered("c2")
    assert outbox.pending == 1


def test_the_down_floor_only_rises(outbox: Outbox) -> None:
    assert [outbox.raise_down_floor(seq) for seq in (3, 3, 2, 4)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_foreign_file_is_refused_by_name(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at" * 20)
    with pytest.raises(OutboxError, match=r"outbox\.sqlite"):
        Outbox(path, PLENTY, ManualClock())


def test_a_full_disk_refuses_and_keeps_what_was(outbox: Outbox) -> None:
    outbox.close_window(SLOT, window_builder(PROFILE, 1), b"one")
    pages = outbox._one("PRAGMA page_count")
    outbox._one(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(2, 500):
            outbox.close_window(SLOT, window_builder(PROFILE, number), b"%d" % number)

    with pytest.raises(OutboxError, match="full"):
        fill()
    stored = outbox.pending
    assert outbox.load_checkpoint(SLOT) == (b"%d" % stored if stored > 1 else b"one")
    outbox._one("PRAGMA max_page_count = 100000")
    assert outbox.close_window(SLOT, window_builder(PROFILE, 0), b"x") == stored + 1


APPENDER = """
import sys
from pathlib import Path
from edge_agent.telemetry.outbox import Outbox
from tests.support.manual_clock import ManualClock
from tests.support.small_profile import small_profile, window_builder
profile = small_profile()
outbox = Outbox(Path(sys.argv[1]), 1 << 20, ManualClock())
for number in range(1, 100000):
    seq = outbox.close_window("main", window_builder(profile, number), b"%d" % number)
    print(seq, flush=True)
"""


@pytest.mark.parametrize("after", [3, 17])
def test_kill_9_in_mid_append_loses_nothing_reported(path: Path, after: int) -> None:
    command = [sys.executable, "-c", APPENDER, str(path)]
    root = str(Path(__file__).parents[4])
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        for _ in range(after):
            reported = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        rest = process.stdout.read().split()
    reported = int(rest[-1]) if rest else reported
    outbox = Outbox(path, PLENTY, ManualClock())
    stored = [one.seq for one in windows_of(outbox)]
    assert stored == list(range(1, len(stored) + 1))
    assert len(stored) in {reported, reported + 1}
    assert outbox.load_checkpoint(SLOT) == b"%d" % len(stored)
    outbox.close()


def test_each_slot_has_a_checkpoint_of_its_own(path: Path) -> None:
    outbox = Outbox(path, PLENTY, ManualClock())
    first, second = outbox.ledger("main"), outbox.ledger("night")
    first.close_window(window_builder(PROFILE, 1), b"one")
    second.save_checkpoint(b"two")

    assert (first.load_checkpoint(), second.load_checkpoint()) == (b"one", b"two")
    outbox.close()


def test_an_outbox_of_one_slot_is_taken_over_by_the_first(path: Path) -> None:
    outbox = Outbox(path, PLENTY, ManualClock())
    outbox._set_meta("checkpoint", b"before")
    outbox.close()

    outbox = Outbox(path, PLENTY, ManualClock())
    first, second = outbox.ledger("main"), outbox.ledger("night")

    assert (first.load_checkpoint(), second.load_checkpoint()) == (b"before", None)
    outbox.close()
