# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools
import random
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.envelope import seal
from edge_contract.errors import WindowError
from edge_contract.evidence import Feedback, Shadow, encode_feedback
from edge_contract.varint import (
    decode_counts,
    decode_signed_counts,
    encode_counts,
    encode_signed_counts,
)
from edge_contract.window import (
    StatisticsBuilder,
    WindowStatistics,
    check_statistics,
    merge,
)
from edge_contract.window_report import WindowReport, encode_blocks
from tests.support.contract_samples import BOOT_ID, make_profile, make_statistics

PROFILE = make_profile()
LAYOUT = PROFILE.layout


def count_rows(
    rows: np.ndarray, previous: np.ndarray | None = None
) -> WindowStatistics:
    builder = StatisticsBuilder(PROFILE)
    builder.add_rows(rows.astype(np.float32), previous)
    return builder.statistics


def test_bins_missing_range_and_repeats_are_counted() -> None:
    rows = np.array([[0.0, 9.0, np.nan], [0.0, -9.0, np.inf], [1.0, 2.0, 3.0]])

    statistics = count_rows(rows, previous=np.array([0.0, 0.0, 0.0], np.float32))

    assert statistics.rows == 3
    assert statistics.counts[LAYOUT.missing].tolist() == [0, 0, 2]
    assert statistics.counts[LAYOUT.below].tolist() == [0, 1, 0]
    assert statistics.counts[LAYOUT.above].tolist() == [0, 1, 0]
    assert statistics.counts[LAYOUT.repeat].tolist() == [2, 0, 0]
    assert [int(statistics.counts[LAYOUT.bins(f)].sum()) for f in range(3)] == [3, 3, 1]
    check_statistics(statistics, PROFILE)


def test_an_infinity_that_repeats_is_missing_and_no_repeat() -> None:
    rows = np.array([[np.inf, 1.0, np.nan]] * 3)

    statistics = count_rows(rows, previous=rows[0].astype(np.float32))

    assert statistics.counts[LAYOUT.missing].tolist() == [3, 0, 3]
    assert statistics.counts[LAYOUT.repeat].tolist() == [0, 3, 0]
    check_statistics(statistics, PROFILE)


def test_outputs_count_class_confidence_margin_and_failures() -> None:
    builder = StatisticsBuilder(PROFILE)

    outputs = [[0.7, 0.1, 0.1, 0.1], [np.nan, 0, 0, 1], [0, 0, 0.5, 0.5]]
    builder.add_outputs(np.array(outputs, np.float32))
    builder.add_failed(2)

    statistics = builder.statistics
    assert statistics.inferences == 2
    assert statistics.failed == 3
    assert statistics.counts[LAYOUT.classes].tolist() == [1, 0, 1, 0]
    assert int(statistics.counts[LAYOUT.margin][0]) == 1
    check_statistics(statistics, PROFILE)


@given(st.lists(st.integers(0, 300), max_size=6), st.randoms())
def test_any_split_in_any_order_merges_to_the_whole(
    cuts: list[int], shuffler: random.Random
) -> None:
    rows = np.random.default_rng(5).normal(size=(300, 3)) * [1, 1e3, 1e-3] + [0, 1e6, 0]
    rows = rows.astype(np.float32)
    rows[::17, 1] = np.nan
    edges = [0, *sorted(cuts), 300]
    parts = [
        count_rows(rows[a:b], rows[a - 1] if a else None)
        for a, b in itertools.pairwise(edges)
    ]
    shuffler.shuffle(parts)

    merged = WindowStatistics.empty(PROFILE)
    for part in parts:
        merged = merge(merged, part, LAYOUT)

    whole = count_rows(rows)
    assert merged.rows == whole.rows
    assert merged.counts.tolist() == whole.counts.tolist()
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-9)
    np.testing.assert_allclose(merged.m2, whole.m2, rtol=1e-9)


@st.composite
def fleets_of_rows(draw: st.DrawFn) -> list[list[np.ndarray]]:
    """Draw the windows of some devices: rows of any level, spread and holes."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    level = draw(st.sampled_from([0.0, 1e3, -1e6]))
    spread = draw(st.sampled_from([1.0, 1e-3, 1e3]))
    devices = []
    for _ in range(draw(st.integers(1, 4))):
        sizes = draw(st.lists(st.integers(0, 60), min_size=1, max_size=5))
        rows = random.normal(size=(sum(sizes), 3)) * [1, spread, 1] + [0, level, 0]
        rows[random.random(rows.shape) < draw(st.sampled_from([0, 0.1]))] = np.nan
        repeated = random.random(len(rows)) < 0.1
        rows[1:][repeated[1:]] = rows[:-1][repeated[1:]]
        devices.append(np.split(rows.astype(np.float32), np.cumsum(sizes)[:-1]))
    return devices


def count_device(windows: list[np.ndarray]) -> list[WindowStatistics]:
    """Count a device's windows, each from where the one before ended."""
    found, previous = [], None
    for rows in windows:
        builder = StatisticsBuilder(PROFILE)
        builder.add_rows(rows, previous)
        shares = np.abs(rows[:, [0, 0, 2, 2]]) + 0.1
        builder.add_outputs(shares / shares.sum(axis=1, keepdims=True))
        found.append(builder.statistics)
        previous = rows[-1] if len(rows) else previous
    return found


def send(statistics: WindowStatistics, seq: int) -> WindowStatistics:
    """Return what a server reads of a window that was sent."""
    count_block, moment_block = encode_blocks(statistics)
    report = WindowReport(
        boot_id=BOOT_ID,
        seq=seq,
        ref_id=PROFILE.ref_id,
        release=BOOT_ID,
        start_us=0,
        duration_us=300_000_000,
        monotonic_us=0,
        clock_synced=True,
        rows=statistics.rows,
        inferences=statistics.inferences,
        failed=statistics.failed,
        lost=0,
        covers=(),
        count_block=count_block,
        moment_block=moment_block,
    )
    return WindowReport.decode(report.encode()).statistics(PROFILE)


def pool(parts: list[WindowStatistics], shuffler: random.Random) -> WindowStatistics:
    """Merge windows pair by pair, any two at a time."""
    left = list(parts)
    while len(left) > 1:
        shuffler.shuffle(left)
        left.append(merge(left.pop(), left.pop(), LAYOUT))
    return left[0]


@given(fleets_of_rows(), st.randoms(use_true_random=False))
def test_merging_equals_pooling_over_windows_devices_and_orders(
    devices: list[list[np.ndarray]], shuffler: random.Random
) -> None:
    parts = [one for windows in devices for one in count_device(windows)]
    # What each device measured in one window, and all of them together.
    whole = pool([count_device([np.concatenate(one)])[0] for one in devices], shuffler)
    merged = pool(parts, shuffler)
    sent = pool([send(one, seq) for seq, one in enumerate(parts)], shuffler)

    for found in (merged, sent):
        assert found.counts.tolist() == whole.counts.tolist()
        assert (found.rows, found.inferences, found.failed) == (
            whole.rows,
            whole.inferences,
            whole.failed,
        )
    values = np.concatenate([rows for windows in devices for rows in windows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a feature without values
        mean = np.nan_to_num(np.nanmean(values.astype(np.float64), axis=0))
        m2 = np.nansum((values - mean) ** 2, axis=0)
    size = np.abs(np.nan_to_num(values)).max(axis=0, initial=0)
    n = np.maximum(whole.valid(LAYOUT), 1)
    for one in (whole, merged):
        np.testing.assert_allclose(one.mean, mean, rtol=1e-9, atol=1e-9)
        assert (np.abs(one.m2 - m2) <= 1e-9 * (m2 + n)).all()
    # float32 on the wire: half a unit in the last place of what each window says.
    error = 2.0**-24 * size
    assert (np.abs(sent.mean - mean) <= 2 * error + 1e-9).all()
    bound = 2.0**-22 * m2 + n * (4 * error**2) + 4 * error * np.sqrt(n * m2)
    assert (np.abs(sent.m2 - m2) <= bound + 1e-9).all()


def test_windows_of_different_profiles_do_not_merge() -> None:
    other = make_profile(seed=9)

    with pytest.raises(WindowError, match="cannot merge"):
        merge(make_statistics(PROFILE), make_statistics(other), LAYOUT)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 299},
        {"inferences": 1},
        {"ref_id": bytes(8)},
        {"counts": np.zeros(3, dtype=np.int64)},
        {"mean": np.full(3, np.nan)},
        {"m2": np.full(3, -1.0)},
    ],
)
def test_statistics_that_no_rows_could_give_are_refused(
    change: dict[str, Any],
) -> None:
    statistics = dataclasses.replace(make_statistics(PROFILE), **change)

    with pytest.raises(WindowError):
        check_statistics(statistics, PROFILE)


def test_a_negative_count_is_refused() -> None:
    statistics = make_statistics(PROFILE)
    statistics.counts[0] -= 1000
    statistics.counts[1] += 1000

    with pytest.raises(WindowError, match="negative"):
        check_statistics(statistics, PROFILE)


def test_a_counter_above_its_values_is_refused() -> None:
    statistics = make_statistics(PROFILE)
    statistics.counts[LAYOUT.repeat] = 301

    with pytest.raises(WindowError, match="counter"):
        check_statistics(statistics, PROFILE)


@given(st.lists(st.integers(0, 2**53 - 1), max_size=40))
def test_varints_round_trip(values: list[int]) -> None:
    counts = np.array(values, dtype=np.int64)

    assert decode_counts(encode_counts(counts), len(values)).tolist() == values


@given(st.lists(st.integers(-(2**52), 2**52 - 1), max_size=40))
def test_signed_varints_round_trip(values: list[int]) -> None:
    counts = np.array(values, dtype=np.int64)

    assert (
        decode_signed_counts(encode_signed_counts(counts), len(values)).tolist()
        == values
    )


@pytest.mark.parametrize("value", [-(2**52) - 1, 2**52])
def test_signed_counts_out_of_range_are_not_encoded(value: int) -> None:
    with pytest.raises(WindowError):
        encode_signed_counts(np.array([value], dtype=np.int64))


@given(st.binary(max_size=64), st.integers(0, 20))
def test_varints_decode_only_what_encodes_back(data: bytes, expected: int) -> None:
    try:
        counts = decode_counts(data, expected)
    except WindowError:
        return
    assert encode_counts(counts) == data


@pytest.mark.parametrize("value", [-1, 2**53])
def test_counts_out_of_range_are_not_encoded(value: int) -> None:
    with pytest.raises(WindowError):
        encode_counts(np.array([value], dtype=np.int64))


@pytest.mark.parametrize(("rows", "most"), [(300, 512), (60_000, 760)])
def test_a_window_of_ten_features_fits_its_bound(rows: int, most: int) -> None:
    profile = make_profile(10, 7)
    statistics = make_statistics(profile, rows)
    count_block, moment_block = encode_blocks(statistics)
    report = WindowReport(
        boot_id=BOOT_ID,
        seq=2**31,
        ref_id=profile.ref_id,
        release=BOOT_ID,
        start_us=1_900_000_000_000_000,
        duration_us=300_000_000,
        monotonic_us=10**12,
        clock_synced=True,
        rows=rows,
        inferences=statistics.inferences,
        failed=0,
        lost=rows,
        covers=(),
        count_block=count_block,
        moment_block=moment_block,
        feedback_block=encode_feedback(Feedback(np.full(16, 100), np.full(16, 9))),
        shadow=Shadow(BOOT_ID, rows, rows),
    )
    data = seal(report.encode(), key=bytes(32), epoch=1, aad="t")

    assert len(data) <= most
    assert WindowReport.decode(report.encode()) == report
