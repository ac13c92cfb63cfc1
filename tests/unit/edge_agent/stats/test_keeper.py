# SPDX-License-Identifier: Apache-2.0
"""Windows of event time, counted exactly, kept through restarts and full disks."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.flow import Grid
from edge_agent.stats.checkpoint import (
    Checkpoint,
    ProducedCounter,
    open_counter,
    recover,
)
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_contract.errors import EdgeError
from edge_contract.profile import ReferenceProfile
from edge_contract.window import StatisticsBuilder
from edge_contract.window_report import WindowReport
from tests.support.agent_doubles import ManualClock, MemoryLedger, Observation
from tests.support.bundles import ModelRecipe, make_profile
from tests.support.keepers import GRID, RELEASE, WINDOW_US, make_keeper, record


@pytest.fixture
def profile() -> ReferenceProfile:
    return make_profile(ModelRecipe())


@pytest.fixture
def counter(tmp_path: Path) -> ProducedCounter:
    return ProducedCounter(tmp_path / "produced.counter")


def observe(
    start_row: int, rows: int = 4, *, stream: str = "a", failed: bool = False
) -> Observation:
    """Return an inference over rows of 1 ms each; the values tell the rows."""
    numbers = np.arange(start_row, start_row + rows)
    values = np.stack([np.sin(numbers), np.cos(numbers)], axis=1).astype(np.float32)
    output = np.array([0.2, 0.5, 0.3], dtype=np.float32)
    return Observation(
        stream,
        start_row == 0,
        values,
        numbers.astype(np.int64) * 1000,
        None if failed else output,
        5000,
    )


def accounted(ledger: MemoryLedger) -> int:
    closed = sum(one.inferences + one.failed + one.lost for one in ledger.reports)
    assert ledger.checkpoint is not None
    checkpoint = Checkpoint.decode(ledger.checkpoint)
    is_open = 0 if checkpoint.window is None else checkpoint.window.produced
    assert closed + is_open + checkpoint.lost == checkpoint.produced
    return checkpoint.produced


def test_a_window_closes_when_a_row_of_the_next_one_comes(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    for start in range(0, 64, 4):
        record(keeper, observe(start))
    keeper.flush()
    assert ledger.reports == []

    record(keeper, observe(64))
    keeper.flush()

    (report,) = ledger.reports
    assert (report.start_us, report.duration_us) == (0, WINDOW_US)
    assert (report.rows, report.inferences, report.failed) == (64, 16, 0)
    assert report.release == b"release1"


def test_an_inference_over_two_windows_is_split_by_its_rows(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, Grid(128, 64, 2))()
    record(keeper, observe(0, 128))
    record(keeper, observe(128, 64))
    record(keeper, observe(192, 64))
    keeper.flush()

    found = [(one.start_us, one.rows, one.inferences) for one in ledger.reports]
    assert found == [(0, 64, 0), (64_000, 64, 1), (128_000, 64, 1)]


def test_blocks_give_the_same_sums_as_one_pass_over_the_rows(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    observations = [observe(start) for start in range(0, 64, 4)]
    for index, one in enumerate(observations):
        record(keeper, one)
        if index % 5 == 0:
            keeper.flush()
    keeper.finish_window()

    builder = StatisticsBuilder(profile)
    builder.add_rows(np.concatenate([one.rows for one in observations]))
    builder.add_outputs(
        np.stack([one.output for one in observations if one.output is not None])
    )
    expected = builder.statistics
    found = ledger.reports[0].statistics(profile)
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.m2, expected.m2, rtol=1e-6)


def test_streams_do_not_repeat_each_other(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter, window_us=1_000_000)
    keeper.prepare(profile, RELEASE, GRID)()
    same = np.full((4, 2), 0.25, dtype=np.float32)
    for index, stream in enumerate(["a", "b", "a"]):
        times = np.arange(4 * index, 4 * index + 4, dtype=np.int64)
        output = np.array([1, 0, 0], dtype=np.float32)
        record(keeper, Observation(stream, index < 2, same, times, output, 1))
    keeper.finish_window()

    statistics = ledger.reports[0].statistics(profile)
    # 3 in each inference, and 1 where stream a goes on after stream b.
    assert statistics.counts[profile.layout.repeat].tolist() == [10, 10]


def test_failed_inferences_and_missing_values_are_counted(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    bad = observe(0)
    bad.rows[1, 0] = np.nan
    record(keeper, bad)
    record(keeper, observe(4, failed=True))
    keeper.finish_window()

    statistics = ledger.reports[0].statistics(profile)
    assert (statistics.inferences, statistics.failed) == (1, 1)
    assert statistics.counts[profile.layout.missing].tolist() == [1, 0]
    assert counter.value == 2


def test_event_time_that_goes_back_closes_the_window(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(128))
    record(keeper, observe(0))
    keeper.finish_window()

    assert [one.start_us for one in ledger.reports] == [128_000, 0]


def test_a_clean_restart_goes_on_with_the_open_window(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    keeper.stop()
    assert ledger.reports == []

    again = make_keeper(ledger, counter)
    again.prepare(profile, RELEASE, GRID)()
    record(again, observe(4))
    again.finish_window()

    (report,) = ledger.reports
    assert (report.rows, report.inferences, report.lost) == (8, 2, 0)
    assert accounted(ledger) == counter.value == 2


def test_a_kill_declares_what_was_made_after_the_checkpoint(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    keeper.checkpoint()
    for start in (4, 8, 12):
        record(keeper, observe(start))  # and then the process is killed

    again = make_keeper(ledger, counter)
    again.prepare(profile, RELEASE, GRID)()
    record(again, observe(16))
    again.finish_window()

    (report,) = ledger.reports
    assert (report.inferences, report.lost) == (2, 3)
    assert accounted(ledger) == counter.value == 5


def test_two_kills_in_a_row_declare_each_loss_once(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    for _ in range(2):
        keeper = make_keeper(ledger, counter)
        keeper.prepare(profile, RELEASE, GRID)()
        record(keeper, observe(0))
    last = make_keeper(ledger, counter)
    last.prepare(profile, RELEASE, GRID)()
    last.stop()

    assert accounted(ledger) == counter.value == 2
    assert ledger.checkpoint is not None
    assert Checkpoint.decode(ledger.checkpoint).lost == 2


def test_another_release_closes_the_open_window(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    other = make_profile(ModelRecipe(profile_seed=1))
    keeper.prepare(other, b"release2" + bytes(24), GRID)()
    record(keeper, observe(4))
    keeper.finish_window()

    found = [(one.release, one.ref_id, one.inferences) for one in ledger.reports]
    assert found == [
        (b"release1", profile.ref_id, 1),
        (b"release2", other.ref_id, 1),
    ]
    assert set(ledger.layouts) == {profile.ref_id, other.ref_id}


def test_a_restart_under_another_release_closes_the_restored_window(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    keeper.stop()
    again = make_keeper(ledger, counter)
    other = make_profile(ModelRecipe(profile_seed=1))
    again.prepare(other, b"release2" + bytes(24), GRID)()
    again.flush()

    (report,) = ledger.reports
    assert (report.release, report.inferences) == (b"release1", 1)
    assert accounted(ledger) == 1


def test_a_full_disk_keeps_windows_in_memory_and_no_checkpoint_passes_them(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    before = ledger.checkpoint
    ledger.is_full = True
    record(keeper, observe(0))
    record(keeper, observe(64))
    record(keeper, observe(128))
    keeper.checkpoint()
    assert (keeper.waiting_windows, ledger.checkpoint) == (2, before)

    ledger.is_full = False
    keeper.checkpoint()

    assert [one.start_us for one in ledger.reports] == [0, 64_000]
    assert accounted(ledger) == counter.value == 3


def test_a_full_disk_for_long_declares_the_oldest_windows_lost(
    profile: ReferenceProfile, counter: ProducedCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.stats.keeper.MAX_BACKLOG", 2)
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    ledger.is_full = True
    for start in range(0, 320, 64):
        record(keeper, observe(start))
    keeper.flush()
    ledger.is_full = False
    keeper.checkpoint()

    assert [one.start_us for one in ledger.reports] == [128_000, 192_000]
    assert [one.lost for one in ledger.reports] == [2, 0]
    assert accounted(ledger) == counter.value == 5


def test_more_observations_than_the_ring_holds_are_all_counted(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    for start in range(0, 4 * 5000, 4):
        record(keeper, observe(start))
    keeper.finish_window()

    assert sum(one.rows for one in ledger.reports) == 20_000
    assert accounted(ledger) == counter.value == 5000


def test_the_thread_counts_without_being_asked(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    keeper.start()
    for start in range(0, 4 * 2000, 4):
        record(keeper, observe(start))
    keeper.stop()

    assert accounted(ledger) == counter.value == 2000
    starts = [one.start_us for one in ledger.reports]
    assert starts == list(range(0, 8_000_000 - WINDOW_US, WINDOW_US))


def test_a_counter_behind_the_checkpoint_is_set_right(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    keeper.stop()
    counter.value = 0  # a power cut before the page was written

    make_keeper(ledger, counter)

    assert counter.value == 1


def test_the_counter_of_one_slot_is_taken_over_by_the_first(tmp_path: Path) -> None:
    with ProducedCounter(tmp_path / "produced.counter") as old:
        old.value = 7

    with (
        open_counter(tmp_path, "main") as first,
        open_counter(tmp_path, "night") as second,
    ):
        assert (first.value, second.value) == (7, 0)
    with open_counter(tmp_path, "main") as again:
        assert again.value == 7


def test_a_damaged_checkpoint_is_refused_by_name() -> None:
    whole = Checkpoint(3, 1).encode()
    for data in (b"", whole[:-1], b"\xa0", whole + b"\0"):
        with pytest.raises(EdgeError, match="statistics checkpoint"):
            Checkpoint.decode(data)


def test_a_counter_behind_the_checkpoint_declares_nothing_lost() -> None:
    recovered = recover(Checkpoint(produced=9, lost=2), 4)

    assert (recovered.produced, recovered.lost) == (9, 2)


def test_reports_carry_the_clocks(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    clock = ManualClock()
    clock.synced = False
    clock.advance(77)
    keeper = StatisticsKeeper(ledger, counter, clock, Periods(WINDOW_US, 10_000_000))
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    keeper.finish_window()

    report: WindowReport = ledger.reports[0]
    assert (report.monotonic_us, report.clock_synced) == (77, False)
