# SPDX-License-Identifier: Apache-2.0
"""What a window tells beside statistics, and what clocks and large frames do to it."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import OutboxError
from edge_agent.flow import Float32, Grid, Readings
from edge_agent.stats.checkpoint import Checkpoint, ProducedCounter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.operations import count_latencies
from edge_contract.profile import ReferenceProfile
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


def observe(start_row: int, *, failed: bool = False) -> Observation:
    """Return an inference of 5 us over four rows of 1 ms each."""
    output = None if failed else np.array([0.2, 0.5, 0.3], dtype=np.float32)
    rows = np.full((4, 2), start_row, dtype=np.float32)
    times = np.arange(start_row, start_row + 4, dtype=np.int64) * 1000
    return Observation("a", start_row == 0, rows, times, output, 5000)


class SteppingGauges:
    """Readings that differ each time."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> Readings:
        """Return the next readings."""
        self.reads += 1
        return Readings(
            queue=3,
            rss_bytes=self.reads << 20,
            temperature=40.6 + self.reads,
            disk_free_bytes=(100 - self.reads) << 20,
        )


def test_a_window_tells_latencies_and_readings(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger, clock, gauges = MemoryLedger(), ManualClock(), SteppingGauges()
    keeper = StatisticsKeeper(
        ledger, counter, clock, Periods(WINDOW_US, 10_000_000), gauges
    )
    keeper.prepare(profile, RELEASE, GRID)()
    keeper.start()
    record(keeper, observe(0))
    record(keeper, observe(4, failed=True))
    clock.advance(2_500_000)
    keeper.finish_window()
    record(keeper, observe(8))
    keeper.stop()

    found = ledger.reports[0].operations()
    assert found is not None
    assert found.latency[count_latencies(np.array([5000])).argmax()] == 2
    assert (found.latency.sum(), found.elapsed_ms, found.queue) == (2, 2500, 3)
    assert (found.rss_kib, found.temperature, found.disk_free_mib) == (1024, 42, 99)
    assert found.is_throttled is None
    counts, total_ns = keeper.latency
    assert (counts.sum(), total_ns) == (3, 15_000)


def test_operations_of_an_open_window_outlive_a_restart(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()

    def run(start_row: int) -> StatisticsKeeper:
        clock, periods = ManualClock(), Periods(WINDOW_US, 10_000_000)
        keeper = StatisticsKeeper(ledger, counter, clock, periods, SteppingGauges())
        keeper.prepare(profile, RELEASE, GRID)()
        keeper.start()
        record(keeper, observe(start_row))
        clock.advance(1_000_000)
        keeper.stop()
        return keeper

    run(0)
    run(4).finish_window()

    found = ledger.reports[0].operations()
    assert found is not None
    assert (found.latency.sum(), found.elapsed_ms, found.rss_kib) == (2, 2000, 1024)


def test_a_checkpoint_of_an_older_agent_has_no_operations(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    record(keeper, observe(0))
    keeper.stop()
    assert ledger.checkpoint is not None
    wire = decode_cbor(ledger.checkpoint, max_bytes=1 << 20)
    del wire[5][8]

    window = Checkpoint.decode(encode_cbor(wire)).window

    assert window is not None
    assert window.operations.latency.sum() == 0


@pytest.mark.parametrize("time_us", [-(2**62), -1, 2**63 - 1])
def test_a_clock_gone_wrong_gives_windows_that_travel(
    profile: ReferenceProfile, counter: ProducedCounter, time_us: int
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    for at_us in (5_000, time_us, 6_000):
        rows = np.full((1, 2), 0.5, dtype=np.float32)
        output = np.array([1, 0, 0], dtype=np.float32)
        record(keeper, Observation("a", at_us == 5_000, rows, at_us, output, 1))
    keeper.finish_window()

    for one in ledger.reports:
        assert WindowReport.decode(one.encode()) == one
    assert sum(one.inferences for one in ledger.reports) == 3


def test_large_frames_are_thinned_by_event_time_and_inferences_are_not(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter, window_us=1_000_000)

    def reduce(frames: Float32) -> Float32:
        return frames[:, :2]

    keeper.prepare(profile, RELEASE, Grid(1, 1, 6), reduce)()
    for number in range(300):
        frame = np.full((1, 6), number, dtype=np.float32)
        output = None if number % 3 else np.array([1, 0, 0], dtype=np.float32)
        at_us = (number + 10) * 10_000
        record(keeper, Observation("a", number == 0, frame, at_us, output, 1))
    keeper.finish_window()

    found = [(one.rows, one.inferences, one.failed) for one in ledger.reports]
    assert found == [(18, 30, 60), (20, 34, 66), (20, 33, 67), (2, 3, 7)]
    for one in ledger.reports:
        one.statistics(profile)


def test_few_large_frames_are_held_at_a_time(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = make_keeper(ledger, counter, window_us=1_000_000_000)
    width = 96 * 96 * 3

    keeper.prepare(profile, RELEASE, Grid(1, 1, width), lambda one: one[:, :2])()
    frame, output = np.ones((1, width), np.float32), np.array([1, 0, 0], np.float32)
    most = 0
    for number in range(1, 200):
        one = Observation("a", number == 1, frame, number * 1_000_000, output, 1)
        record(keeper, one)
        assert keeper._held is not None
        most = max(most, sum(slot[2] is not None for slot in keeper._held))
    keeper.finish_window()

    assert most == 2**20 // (width * 4 + 8 + 3 * 4)
    assert sum(one.rows for one in ledger.reports) == 199


class BrokenGauges:
    """Gauges whose outbox is damaged."""

    def read(self) -> Readings:
        """Fail."""
        raise OutboxError("outbox: damaged")


def test_gauges_that_fail_stop_no_counting(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger, clock = MemoryLedger(), ManualClock()
    periods = Periods(WINDOW_US, 10_000_000)
    keeper = StatisticsKeeper(ledger, counter, clock, periods, BrokenGauges())
    keeper.prepare(profile, RELEASE, GRID)()
    keeper.start()
    record(keeper, observe(0))
    keeper.finish_window()
    keeper.stop()

    found = ledger.reports[0].operations()
    assert found is not None
    assert (found.latency.sum(), found.queue) == (1, None)
