# SPDX-License-Identifier: Apache-2.0
"""Private windows: the noise, when it is drawn, and what is held back."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.stats.checkpoint import Checkpoint, ProducedCounter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_agent.stats.noise import LEAST_INFERENCES, Noise, draw_laplace
from edge_agent.telemetry.outbox import Outbox
from edge_contract.messages import UpMessage
from edge_contract.operations import Operations
from edge_contract.privacy import sensitivity
from edge_contract.profile import ReferenceProfile
from edge_contract.window_report import WindowReport
from tests.support.agent_doubles import ManualClock, MemoryLedger, Observation
from tests.support.bundles import ModelRecipe, make_profile
from tests.support.keepers import GRID, RELEASE, WINDOW_US, record
from tests.support.small_profile import small_profile, some_statistics

EPSILON = 1_000_000
OTHER = b"release2" + bytes(24)


@pytest.fixture
def profile() -> ReferenceProfile:
    return make_profile(ModelRecipe())


@pytest.fixture
def counter(tmp_path: Path) -> ProducedCounter:
    return ProducedCounter(tmp_path / "produced.counter")


def seeded(seed: int) -> Callable[[int], int]:
    """Return a source of noise that a failing test can be run with again."""
    random = np.random.default_rng(seed)
    return lambda limit: int(random.integers(limit))


def private_keeper(
    ledger: MemoryLedger, counter: ProducedCounter, profile: ReferenceProfile
) -> StatisticsKeeper:
    keeper = StatisticsKeeper(
        ledger,
        counter,
        ManualClock(),
        Periods(WINDOW_US, 10_000_000),
        epsilon_millionths=EPSILON,
    )
    keeper.prepare(profile, RELEASE, GRID)()
    return keeper


def infer(keeper: StatisticsKeeper, window: int, inferences: int) -> None:
    """Record inferences of four rows, all in one window of event time."""
    random = np.random.default_rng(window)
    for number in range(inferences):
        rows = random.normal(size=(4, 2)).astype(np.float32)
        times = np.full(4, window * WINDOW_US + number * 100, dtype=np.int64)
        output = np.array([0.2, 0.5, 0.3], dtype=np.float32)
        record(keeper, Observation("a", number == 0, rows, times, output, 5000))


@pytest.mark.parametrize(("numerator", "denominator"), [(1, 1), (1, 4), (3, 2)])
def test_noise_has_the_distribution_that_was_asked_for(
    numerator: int, denominator: int
) -> None:
    below, draws = seeded(6), 20_000
    found = Counter(draw_laplace(numerator, denominator, below) for _ in range(draws))

    rate = numerator / denominator
    norm = (1 - math.exp(-rate)) / (1 + math.exp(-rate))
    chi_square, cells = 0.0, 0
    for size in range(-40, 41):
        expected = draws * norm * math.exp(-abs(size) * rate)
        if expected >= 5:
            chi_square += (found[size] - expected) ** 2 / expected
            cells += 1
    # the mean of chi-square is cells - 1, its standard deviation sqrt(2 (cells - 1))
    assert chi_square < cells - 1 + 4 * math.sqrt(2 * (cells - 1))


def test_every_count_but_the_uncovered_gets_noise_of_its_own() -> None:
    profile = small_profile()
    layout = profile.layout
    exact = some_statistics(profile, 1, rows=40)

    rate = EPSILON / (sensitivity(layout, 8) * 1_000_000)
    noise = Noise(layout, EPSILON, 8, seeded(3))
    drawn = np.array([noise.add(exact).counts - exact.counts for _ in range(200)])

    covered = np.ones(layout.size, dtype=bool)
    covered[layout.below.start : layout.repeat.stop] = False
    spread = drawn[:, covered].std(axis=0)
    # the standard deviation of a Laplace is sqrt(2) / rate
    np.testing.assert_allclose(spread, math.sqrt(2) / rate, rtol=0.35)
    told = noise.add(exact)
    assert not told.counts[~covered].any()
    assert (told.failed, told.epsilon_millionths) == (0, EPSILON)
    assert not told.mean.any()
    assert not told.m2.any()


def test_neither_rows_nor_inferences_fall_below_zero() -> None:
    profile = small_profile()
    noise = Noise(profile.layout, 1000, 8)
    exact = some_statistics(profile, 1, rows=20)

    told = [noise.add(exact) for _ in range(40)]

    assert min(one.rows for one in told) == 0
    assert min(one.inferences for one in told) == 0


def test_a_private_window_tells_noised_counts_and_no_moments(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = private_keeper(ledger, counter, profile)

    infer(keeper, 0, LEAST_INFERENCES)
    infer(keeper, 1, 1)
    keeper.flush()

    (report,) = ledger.reports
    assert report.epsilon_millionths == EPSILON
    assert report.moment_block == b""
    operations = report.operations()
    assert operations is not None
    assert operations.latency.tolist() == Operations().latency.tolist()
    statistics = WindowReport.decode(report.encode()).statistics(profile)
    assert int(statistics.counts.min()) < 0


def test_noise_is_drawn_once_though_the_disk_refuses(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    class RefusingLedger(MemoryLedger):
        """Builds every report, then refuses while told to."""

        def __init__(self) -> None:
            super().__init__()
            self.built: list[bytes] = []

        def close_window(
            self, build: Callable[[bytes, int], UpMessage], checkpoint: bytes
        ) -> int:
            report = build(b"bootboot", 1)
            assert isinstance(report, WindowReport)
            self.built.append(report.count_block)
            return super().close_window(build, checkpoint)

    ledger = RefusingLedger()
    keeper = private_keeper(ledger, counter, profile)
    infer(keeper, 0, 30)
    infer(keeper, 1, 1)

    ledger.is_full = True
    keeper.flush()
    keeper.flush()
    ledger.is_full = False
    keeper.flush()

    assert len(ledger.built) == 3
    assert set(ledger.built) == {ledger.reports[0].count_block}


def test_a_small_window_goes_on_until_it_has_enough(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = private_keeper(ledger, counter, profile)

    infer(keeper, 2, LEAST_INFERENCES - 1)
    infer(keeper, 5, 1)
    keeper.flush()
    assert ledger.reports == []

    infer(keeper, 6, 1)
    keeper.flush()

    (report,) = ledger.reports
    assert report.start_us == 2 * WINDOW_US
    assert report.duration_us == 4 * WINDOW_US
    assert report.lost == 0


def test_a_small_window_outlives_a_restart_and_the_end_of_a_source(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = private_keeper(ledger, counter, profile)
    infer(keeper, 2, 12)
    infer(keeper, 3, 3)
    keeper.finish_window()
    keeper.stop()
    assert ledger.reports == []
    assert ledger.checkpoint is not None

    again = private_keeper(ledger, counter, profile)
    infer(again, 3, 6)
    infer(again, 4, 1)
    again.stop()

    (report,) = ledger.reports
    assert report.start_us == 2 * WINDOW_US
    assert report.duration_us == 2 * WINDOW_US
    checkpoint = Checkpoint.decode(ledger.checkpoint)
    assert checkpoint.produced == counter.value == 22
    assert checkpoint.lost == 0


def test_what_another_release_cuts_off_is_declared_lost(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = private_keeper(ledger, counter, profile)
    infer(keeper, 0, 7)
    keeper.prepare(profile, OTHER, GRID)()
    infer(keeper, 0, 25)
    infer(keeper, 1, 1)
    keeper.stop()

    (report,) = ledger.reports
    assert report.release == OTHER[:8]
    assert report.lost == 7
    assert ledger.checkpoint is not None
    checkpoint = Checkpoint.decode(ledger.checkpoint)
    assert checkpoint.produced == counter.value == 33


def test_a_window_of_a_release_that_is_gone_is_declared_lost(
    profile: ReferenceProfile, counter: ProducedCounter
) -> None:
    ledger = MemoryLedger()
    keeper = private_keeper(ledger, counter, profile)
    infer(keeper, 0, 40)
    keeper.stop()

    again = StatisticsKeeper(
        ledger,
        counter,
        ManualClock(),
        Periods(WINDOW_US, 10_000_000),
        epsilon_millionths=EPSILON,
    )
    again.prepare(profile, OTHER, GRID)()
    infer(again, 0, 25)
    infer(again, 1, 1)
    again.stop()

    assert [one.lost for one in ledger.reports] == [40]


def test_offline_merging_adds_noised_windows_only(
    profile: ReferenceProfile, counter: ProducedCounter, tmp_path: Path
) -> None:
    clock = ManualClock()
    outbox = Outbox(tmp_path / "outbox.sqlite", 64 * 1024, clock)
    keeper = StatisticsKeeper(
        outbox.ledger("main"),
        counter,
        clock,
        Periods(WINDOW_US, 10_000_000),
        epsilon_millionths=EPSILON,
    )
    keeper.prepare(profile, RELEASE, GRID)()
    for window in range(400):
        infer(keeper, window, 20)
        keeper.flush()

    bodies = [row.body for row in outbox.rows(range(1, 1000))]
    reports = [WindowReport.decode(one) for one in bodies]
    merged = [one for one in reports if one.covers]
    assert merged
    assert {one.epsilon_millionths for one in reports} == {EPSILON}
    assert all(one.moment_block == b"" for one in reports)
    assert sum(len(one.covers) // 2 + 1 for one in reports) == 399
    outbox.close()
