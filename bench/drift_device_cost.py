# SPDX-License-Identifier: Apache-2.0
"""Claim: counting a row of ten features costs two microseconds, and a window bytes.

Owns the measurement of the device's statistics as the agent makes them, in blocks of
rows, beside whylogs in an environment of its own: its row API, its pandas path, and
the size of its profile. whylogs keeps more (quantile sketches at any point, distinct
values, types); what is compared is the price of watching a model for drift.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from bench.contract_window import (
    FEATURES,
    make_profile,
    seal_window,
)
from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.side_environment import run_aside
from edge_contract.binning import Float32
from edge_contract.profile import ReferenceProfile
from edge_contract.window import StatisticsBuilder

ROWS = 60_000
BLOCKS = (64, 256)
ROUNDS = 9
_SMALL_WINDOW = 300
_ASKED_US, _ASKED_ROW, _ASKED_FRAME, _ASKED_BYTES = 2.0, 100.0, 8.0, 100.0


def run() -> Document:
    """Measure blocks of each size, then whylogs on the same rows."""
    profile = make_profile()
    rows = make_rows(ROWS)
    costs = {block: time_blocks(profile, rows, block) for block in BLOCKS}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.npy"
        np.save(path, rows)
        theirs = run_aside("whylogs", "whylogs_cost", path)
    found = [
        Row(
            f"a row of {FEATURES} features, blocks of {block} rows",
            median,
            "us",
            n=n,
            spread=spread,
            asked=f"<= {_ASKED_US:g} us" if block == BLOCKS[-1] else None,
            holds=median <= _ASKED_US if block == BLOCKS[-1] else None,
        )
        for block, (median, n, spread) in costs.items()
    ]
    sizes = {count: weigh(profile, rows[:count]) for count in (_SMALL_WINDOW, ROWS)}
    if theirs is None:
        found += [Row(f"bytes, {n} rows", size, "B") for n, size in sizes.items()]
        found.append(Row("whylogs could not be installed: nothing beside it", 0.0, "-"))
        return make_document("drift_device_cost", found)
    ours = costs[BLOCKS[-1]][0]
    for case, samples, asked in (
        ("a row, whylogs' row API beside it", theirs["row_us"], _ASKED_ROW),
        ("a row, whylogs' pandas path beside it", theirs["frame_us"], _ASKED_FRAME),
    ):
        found.append(_times_less(case, ours, samples, asked))
    found += [
        Row(
            f"bytes, {count} rows, envelope included; whylogs' profile beside it",
            size,
            "B",
            baseline=theirs["bytes"][str(count)],
            ratio=size / theirs["bytes"][str(count)],
            asked=f"<= 1/{_ASKED_BYTES:g} of it",
            holds=size * _ASKED_BYTES <= theirs["bytes"][str(count)],
        )
        for count, size in sizes.items()
    ]
    return make_document("drift_device_cost", found)


def make_rows(count: int) -> Float32:
    """Return normal rows, float32 [count, F]."""
    shape = (count, FEATURES)
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def time_blocks(
    profile: ReferenceProfile, rows: Float32, block: int
) -> tuple[float, int, float]:
    """Return microseconds a row, how many rounds, and their spread."""
    parts = [rows[start : start + block] for start in range(0, len(rows), block)]
    samples = []
    for _ in range(ROUNDS):
        builder = StatisticsBuilder(profile)
        previous = None
        start = time.perf_counter()
        for part in parts:
            builder.add_rows(part, previous)
            previous = part[-1]
        samples.append((time.perf_counter() - start) / len(rows) * 1e6)
    return summarise(samples)


def weigh(profile: ReferenceProfile, rows: Float32) -> int:
    """Return the bytes of a window of these rows as it is sent.

    Without outputs and the device's own figures: whylogs is given none either.
    """
    builder = StatisticsBuilder(profile)
    builder.add_rows(rows)
    return len(seal_window(profile, builder.statistics, None))


def _times_less(case: str, ours: float, theirs: list[float], asked: float) -> Row:
    median, n, spread = summarise(theirs)
    return Row(
        case,
        ours,
        "us",
        baseline=median,
        ratio=ours / median,
        n=n,
        spread=spread,
        asked=f"<= 1/{asked:g} of it",
        holds=ours * asked <= median,
    )


if __name__ == "__main__":
    write_document(run())
