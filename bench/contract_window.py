# SPDX-License-Identifier: Apache-2.0
"""What one window costs on the wire: bytes, and microseconds to encode and decode.

The promises are those of docs/spec/windows.md (WIN-51) and of the contract: encode at
most 60 us, decode with verification at most 20 us. The baseline is the same content as
compact JSON in the same envelope.
"""

import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from edge_contract.binning import BinTable, equal_mass_edges
from edge_contract.envelope import seal, unseal
from edge_contract.operations import Operations, count_latencies, encode_operations
from edge_contract.profile import FeatureReference, OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics
from edge_contract.window_report import WindowReport, encode_blocks

FEATURES = 10
LABELS = 7
ROUNDS = 40
CALLS = 250
KEY = bytes(32)
TOPIC = "edge/1/default/device-0001/up/window"


def run() -> Document:
    """Measure windows of 300 and of 60,000 rows."""
    profile = make_profile()
    rows: list[Row] = []
    for count, most in ((300, 512), (60_000, 760)):
        statistics = count_window(profile, count)
        fare = make_fare(count)
        data = seal_window(profile, statistics, fare)
        as_json = _seal_json(statistics)
        rows.append(
            Row(
                f"bytes, {count} rows, with envelope",
                float(len(data)),
                "B",
                baseline=float(len(as_json)),
                ratio=len(data) / len(as_json),
                asked=f"<= {most} B",
                holds=len(data) <= most,
            )
        )
        rows += [
            _compare(
                f"encode and seal, {count} rows",
                partial(seal_window, profile, statistics, fare),
                partial(_seal_json, statistics),
                60.0,
            ),
            _compare(
                f"verify and decode, {count} rows",
                partial(_open_window, data),
                partial(_open_json, as_json),
                20.0,
            ),
            _compare(
                f"verify, decode, unpack and check, {count} rows",
                partial(_read_window, profile, data),
                partial(_open_json, as_json),
                None,
            ),
        ]
    return make_document("contract_window", rows)


def _compare(
    case: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    most: float | None,
) -> Row:
    """Time both in turn, so that a change of the machine's speed meets both."""
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(_microseconds(ours))
        theirs.append(_microseconds(other))
    value, n, spread = summarise(mine)
    baseline, _, _ = summarise(theirs)
    return Row(
        case,
        value,
        "us",
        baseline,
        value / baseline,
        n,
        spread,
        None if most is None else f"<= {most:g} us",
        None if most is None else value <= most,
    )


def _microseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - start) / CALLS / 1000


def make_profile() -> ReferenceProfile:
    """Return a profile of standard normal features and a classifier."""
    values = np.random.default_rng(1).normal(size=(5000, FEATURES)).astype(np.float32)
    features = []
    for index in range(FEATURES):
        edges = equal_mass_edges(values[:, index])
        counts = BinTable([edges]).count(values[:, index : index + 1])
        numbers = (0.0, 1.0, -4.0, 4.0, 0.1, 0.1, 0.1, 0.1)
        features.append(FeatureReference(f"f{index}", edges, counts, 0, *numbers))
    outputs = OutputReference(
        labels=tuple(f"class-{index}" for index in range(LABELS)),
        class_counts=np.ones(LABELS, np.int64),
        confidence_edges=np.linspace(0.25, 0.98, 15).astype(np.float32),
        confidence_counts=np.ones(16, np.int64),
        confidence_correct=np.zeros(16, np.int64),
        margin_edges=np.linspace(0.1, 0.9, 7).astype(np.float32),
        margin_counts=np.ones(8, np.int64),
    )
    return ReferenceProfile("vector", tuple(features), outputs, 300, 0, ())


def count_window(profile: ReferenceProfile, rows: int) -> WindowStatistics:
    """Return the statistics of so many random rows, an inference each."""
    rng = np.random.default_rng(2)
    builder = StatisticsBuilder(profile)
    builder.add_rows(rng.normal(size=(rows, FEATURES)).astype(np.float32))
    builder.add_outputs(rng.dirichlet(np.ones(LABELS), rows).astype(np.float32))
    return builder.statistics


def make_fare(rows: int) -> Operations:
    """Latencies of a long tail over three orders of magnitude, and every gauge."""
    random = np.random.default_rng(4)
    latencies = (random.lognormal(5, 0.8, rows) * 1000).astype(np.int64)
    return Operations(
        count_latencies(latencies),
        300_000,
        queue=12,
        rss_kib=43_000,
        cpu_permille=350,
        temperature=61,
        is_throttled=False,
        disk_free_mib=11_000,
    )


def seal_window(
    profile: ReferenceProfile,
    statistics: WindowStatistics,
    operations: Operations | None,
) -> bytes:
    """Return the window as it is sent, envelope included."""
    count_block, moment_block = encode_blocks(statistics)
    block = b"" if operations is None else encode_operations(operations)
    report = WindowReport(
        bytes(8),
        123_456,
        profile.ref_id,
        bytes(8),
        1_790_000_000_000_000,
        300_000_000,
        987_654_321_000,
        clock_synced=True,
        rows=statistics.rows,
        inferences=statistics.inferences,
        failed=statistics.failed,
        lost=0,
        covers=(),
        count_block=count_block,
        moment_block=moment_block,
        operation_block=block,
    )
    return seal(report.encode(), key=KEY, epoch=1, aad=TOPIC)


def _open_window(data: bytes) -> WindowReport:
    return WindowReport.decode(unseal(data, key=KEY, aad=TOPIC))


def _read_window(profile: ReferenceProfile, data: bytes) -> WindowStatistics:
    return _open_window(data).statistics(profile)


def _seal_json(statistics: WindowStatistics) -> bytes:
    body = {
        "boot_id": "0000000000000000",
        "seq": 123_456,
        "ref_id": "0000000000000000",
        "start_us": 1_790_000_000_000_000,
        "counts": statistics.counts.tolist(),
        "mean": statistics.mean.tolist(),
        "m2": statistics.m2.tolist(),
    }
    text = json.dumps(body, separators=(",", ":")).encode()
    return seal(text, key=KEY, epoch=1, aad=TOPIC)


def _open_json(data: bytes) -> dict[str, object]:
    body: dict[str, object] = json.loads(unseal(data, key=KEY, aad=TOPIC))
    return body


if __name__ == "__main__":
    write_document(run())
