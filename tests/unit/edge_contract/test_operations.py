# SPDX-License-Identifier: Apache-2.0
"""How devices fared: counted, merged, and refused where it cannot be."""

import numpy as np
import pytest

from edge_contract.errors import WindowError
from edge_contract.operations import (
    BUCKETS,
    LATENCY_EDGES_NS,
    Operations,
    count_latencies,
    decode_operations,
    encode_operations,
    latency_quantile_us,
    merge_operations,
)
from edge_contract.varint import encode_counts


def block(*numbers: int) -> bytes:
    return encode_counts(np.array(numbers, dtype=np.int64))


def test_each_edge_begins_its_bucket() -> None:
    for index, edge in enumerate(LATENCY_EDGES_NS):
        pair = np.array([edge - 1, edge], dtype=np.int64)
        assert np.flatnonzero(count_latencies(pair)).tolist() == [index, index + 1]
    assert count_latencies(np.array([2**62], np.int64))[BUCKETS - 1] == 1


def test_percentiles_are_within_a_tenth() -> None:
    random = np.random.default_rng(4)
    latencies = (random.lognormal(5, 0.7, 100_000) * 1000).astype(np.int64)
    counted = count_latencies(latencies)

    for share in (0.5, 0.95, 0.99):
        exact = np.quantile(latencies, share) / 1000
        assert latency_quantile_us(counted, share) == pytest.approx(exact, rel=0.1)


def test_merging_adds_and_takes_the_worst_in_any_order() -> None:
    first = Operations(
        latency=count_latencies(np.array([5_000], np.int64)),
        elapsed_ms=3,
        queue=4,
        temperature=-3,
        disk_free_mib=70,
    )
    second = Operations(
        latency=count_latencies(np.array([5_001, 9_000], np.int64)),
        elapsed_ms=5,
        queue=1,
        rss_kib=9,
        is_throttled=False,
        disk_free_mib=60,
    )
    expected = block(7, 8, 5, 10, 0, 270, 1, 61, 10, 2, 2, 1)

    for pair in ((first, second), (second, first)):
        assert encode_operations(merge_operations(*pair)) == expected


def test_numbers_of_a_later_version_are_ignored() -> None:
    found = decode_operations(block(9, 1, 2, 3, 4, 0, 0, 5, 77, 78, 0, 6))

    assert (found.elapsed_ms, found.queue, found.disk_free_mib) == (1, 1, 4)
    assert found.latency[0] == found.latency.sum() == 6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        block(7, 1, 2),
        block(0),
        block(65, *[0] * 70),
        block(7, 0, 0, 0, 0, 0, 3, 0),
        block(7, 0, 0, 0, 0, 2002, 0, 0),
        block(7, 0, 0, 0, 0, 0, 0, 0, 5),
        block(7, 0, 0, 0, 0, 0, 0, 0, 5, 0),
        block(7, 0, 0, 0, 0, 0, 0, 0, BUCKETS, 1),
        block(7, 0, 0, 0, 0, 0, 0, 0, 2**53 - 1, 1, 2**53 - 1, 1),
        bytes(1025),
    ],
)
def test_blocks_that_nothing_could_have_given_are_refused(data: bytes) -> None:
    with pytest.raises(WindowError, match=r"operations|counts"):
        decode_operations(data)


def test_a_full_block_fits_its_bound() -> None:
    most = 2**53 - 2
    latency = np.full(BUCKETS, most, dtype=np.int64)
    operations = Operations(
        latency, most, most, most, most, 1700, is_throttled=True, disk_free_mib=most
    )

    assert len(encode_operations(operations)) <= 1024
