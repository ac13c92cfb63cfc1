# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools
import random
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
