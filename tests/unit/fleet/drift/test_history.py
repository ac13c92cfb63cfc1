# SPDX-License-Identifier: Apache-2.0
import numpy as np

from fleet.drift.fleetwide.history import (
    CHUNK_SLOTS,
    HOURS,
    PAIRS,
    WINDOWS,
    History,
    Values,
    close_chunk,
    close_hour,
    remember,
)
from fleet.drift.fleetwide.yardsticks import read_yardsticks

GUARD, CAP = 9.2, 4032
NOTHING = np.zeros((3, 1, 1), dtype=np.float32)


def feed(
    history: History, series: np.ndarray, season: np.ndarray | None = None
) -> None:
    """Feed float [n, N] as all three channels of one feature."""
    columns = series.shape[1]
    for number, row in enumerate(series):
        y = np.broadcast_to(row, (3, 1, columns)).astype(np.float32)
        seen = np.ones((3, columns), dtype=bool)
        now = NOTHING if season is None else np.full((3, 1, 1), season[number])
        remember(history, Values(y, now, seen, seen & (number > 0)))
        if (number + 1) % 12 == 0:
            close_hour(history)
        if (number + 1) % CHUNK_SLOTS == 0:
            close_chunk(history, GUARD, CAP, np.zeros(columns, dtype=bool))


def ar1(phi: float, length: int, columns: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.normal(size=(length, columns))
    series = np.empty_like(noise)
    series[0] = noise[0]
    for number in range(1, length):
        fresh = np.sqrt(1 - phi**2) * noise[number]
        series[number] = phi * series[number - 1] + fresh
    return series


def test_a_learner_joins_at_once_and_counts_to_the_window() -> None:
    history = History.start(3, 1, 2)

    feed(history, np.ones((2 * CHUNK_SLOTS, 2)))

    assert history.counts[WINDOWS].tolist() == [[288.0] * 2] * 3
    assert history.counts[PAIRS].tolist() == [[287.0] * 2] * 3
    assert history.counts[HOURS].tolist() == [[24.0] * 2] * 3
    assert not history.waiting_counts.any()


def test_a_settled_column_joins_a_day_late_and_only_while_quiet() -> None:
    history = History.start(3, 1, 2)
    feed(history, np.ones((2 * CHUNK_SLOTS, 2)))
    history.learning[:] = False
    history.peaks[0, 1] = GUARD + 1

    joined = []
    for _ in range(3):
        feed(history, np.ones((CHUNK_SLOTS, 2)))
        joined.append(history.counts[WINDOWS, 0].tolist())

    assert joined == [[288.0, 288.0], [288.0, 288.0], [432.0, 288.0]]


def test_level_sd_and_correlation_are_those_of_the_series() -> None:
    history = History.start(3, 1, 400)
    feed(history, 5 + 0.2 * ar1(0.5, 10 * CHUNK_SLOTS, 400, seed=3))

    sticks = read_yardsticks(history, np.zeros(400, np.float32), 260, 2.0)

    assert sticks.ready.all()
    assert abs(float(np.median(sticks.level[0])) - 5) < 0.01
    assert abs(float(np.median(sticks.sd[0])) - 0.2) < 0.01
    assert abs(float(np.median(sticks.windows.phi[0])) - 0.5) < 0.02
    assert float(np.median(sticks.windows.damping[0])) < 1.1
    assert not sticks.slow.any()


def test_upper_limits_only_make_it_more_cautious() -> None:
    history = History.start(3, 1, 50)
    feed(history, 0.2 * ar1(0.3, 2 * CHUNK_SLOTS, 50, seed=4))

    plain = read_yardsticks(history, np.zeros(50, np.float32), 260, 2.0)
    careful = read_yardsticks(history, np.full(50, 1.28, np.float32), 260, 2.0)

    assert (careful.windows.phi > plain.windows.phi).all()
    assert (careful.windows.inverse < plain.windows.inverse).all()


def test_long_memory_is_judged_on_hours() -> None:
    history = History.start(3, 1, 40)
    slow = 0.15 * ar1(0.99, 10 * CHUNK_SLOTS, 40, seed=5)
    quick = 0.15 * ar1(0.0, 10 * CHUNK_SLOTS, 40, seed=6)
    feed(history, slow + quick)

    sticks = read_yardsticks(history, np.zeros(40, np.float32), 260, 2.0)

    assert sticks.slow[0].mean() > 0.9


def test_a_device_with_twice_the_season_has_a_loading_of_one_more() -> None:
    length = 4 * CHUNK_SLOTS
    season = 0.3 * np.sin(2 * np.pi * np.arange(length) / 288)
    noise = 0.1 * ar1(0.0, length, 30, seed=7)
    history = History.start(3, 1, 30)
    feed(history, noise + season[:, np.newaxis], season.astype(np.float32))

    sticks = read_yardsticks(history, np.zeros(30, np.float32), 260, 2.0)

    assert abs(float(np.median(sticks.loading[0])) - 1) < 0.05
    assert abs(float(np.median(sticks.sd[0])) - 0.1) < 0.01


def test_values_far_from_zero_keep_their_spread() -> None:
    history = History.start(3, 1, 20)
    feed(history, 5000 + 0.05 * ar1(0.0, 2 * CHUNK_SLOTS, 20, seed=8))

    sticks = read_yardsticks(history, np.zeros(20, np.float32), 260, 2.0)

    assert abs(float(np.median(sticks.sd[0])) - 0.05) < 0.005
    assert abs(float(np.median(sticks.level[0])) - 5000) < 0.01


def test_a_constant_stream_has_a_finite_yardstick() -> None:
    history = History.start(3, 1, 9)
    feed(history, np.full((2 * CHUNK_SLOTS, 9), 4.0))

    sticks = read_yardsticks(history, np.zeros(9, np.float32), 260, 2.0)

    for array in (sticks.level, sticks.loading, sticks.windows.inverse, sticks.sd):
        assert np.isfinite(array).all()


def test_a_forgotten_column_learns_from_the_start_and_others_do_not() -> None:
    history = History.start(3, 1, 3)
    feed(history, np.ones((2 * CHUNK_SLOTS, 3)))
    history.learning[:] = False

    history.forget(np.array([1]))

    assert history.counts[WINDOWS, 0].tolist() == [288.0, 0.0, 288.0]
    assert history.learning.tolist() == [False, True, False]
    assert np.isnan(history.origin[0, 0]).tolist() == [False, True, False]
