# SPDX-License-Identifier: Apache-2.0
"""Claim: ten thousand devices cost a quarter of a second a window, and it stays flat.

Owns the measurement of one core: scoring, decomposition over four tags, evidence and
verdicts of one slot, for 10,000 x 20 and 100,000 x 20, beside what reading one window
out of the database's columns costs. Streams have a made-up history of a day.
"""

import time
from collections.abc import Sequence

import numpy as np

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.drift_runs import FIRST_SLOT, KeptWindows, simulated_profile
from bench.harness.fleet_simulation import TAGS
from edge_contract.window import StatisticsBuilder
from fleet.drift.fleetwide.history import HOURS, PAIRS, WINDOWS, YY
from fleet.drift.fleetwide.rule import FleetRule
from fleet.drift.fleetwide.scale import Scale, Slot
from fleet.drift.fleetwide.state import FleetState
from fleet.store.statistics import statistics_from_columns, statistics_to_columns

FEATURES = 20
SIZES = (10_000, 100_000)
SLOTS = 13  # an hour, and the slot that begins the next
_ASKED_SECONDS, _ASKED_GROWTH = 0.25, 1.3


def run(sizes: Sequence[int] = SIZES) -> Document:
    """Time the rule at each size."""
    rows, costs = [], []
    for devices in sizes:
        median, n, spread = summarise(time_slots(devices))
        costs.append(median / devices)
        is_first = devices == sizes[0]
        rows.append(
            Row(
                f"one window, {devices} devices x {FEATURES} features",
                median,
                "s",
                n=n,
                spread=spread,
                asked=f"<= {_ASKED_SECONDS}" if is_first else None,
                holds=median <= _ASKED_SECONDS if is_first else None,
            )
        )
    growth = costs[-1] / costs[0]
    rows += [
        Row(
            "cost a device, largest fleet against smallest",
            costs[-1] * 1e6,
            "us",
            baseline=costs[0] * 1e6,
            ratio=growth,
            n=SLOTS,
            asked=f"<= {_ASKED_GROWTH} x",
            holds=growth <= _ASKED_GROWTH,
        ),
        time_reading(sizes[0]),
    ]
    return make_document("drift_cost", rows)


def time_slots(devices: int) -> list[float]:
    """Return seconds of each slot after the first."""
    random = np.random.default_rng(1)
    state, scale = make_state(devices, random)
    rule = FleetRule(scale, state)
    seconds = []
    for number in range(SLOTS + 1):
        slot = make_random_slot(FIRST_SLOT + 577 + number, devices, random)
        start = time.perf_counter()
        rule.advance(slot, KeptWindows())
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def make_state(devices: int, random: np.random.Generator) -> tuple[FleetState, Scale]:
    """Return a fleet whose streams have been white noise for a day."""
    state, scale = FleetState(FEATURES), Scale.read(simulated_profile(FEATURES))
    names = [f"d{number:06}" for number in range(devices)]
    tags = {
        name: {tag: str(random.integers(many)) for tag, many in TAGS.items()}
        for name in names
    }
    state.add_devices(names, tags)
    state.slot, state.first_slot = FIRST_SLOT + 576, FIRST_SLOT
    state.last_seen[:] = state.slot
    history = state.history
    history.origin[:] = 0
    history.counts[WINDOWS], history.counts[PAIRS] = 288, 287
    history.counts[HOURS] = 24
    history.sums[YY] = 288 * 0.17**2
    history.sums[YY, 2] = 288  # a shape is a normal score
    state.shape_counts[:] = 288 * 300 / 16
    return state, scale


def make_random_slot(number: int, devices: int, random: np.random.Generator) -> Slot:
    """Return a slot of white noise."""
    shape = (FEATURES, devices)
    counts = random.poisson(300 / 16, (FEATURES, 16, devices)).astype(np.float32)
    nothing = np.zeros(shape, dtype=np.float32)
    return Slot(
        number=number,
        devices=np.arange(devices),
        rows=counts.sum(axis=1),
        mean=random.normal(0, 0.17, shape).astype(np.float32),
        log_variance=random.normal(0, 0.17, shape).astype(np.float32),
        counts=counts,
        missing=nothing,
        outside=nothing,
        repeat=nothing,
        release=("r1",) * devices,
        trusted=np.ones(devices, dtype=bool),
    )


def time_reading(devices: int) -> Row:
    """Time what reading one window a device out of the columns costs."""
    profile = simulated_profile(FEATURES)
    builder = StatisticsBuilder(profile)
    random = np.random.default_rng(2)
    builder.add_rows(random.normal(size=(300, FEATURES)).astype(np.float32))
    row = statistics_to_columns(builder.statistics)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            statistics_from_columns(row, profile.layout)
        seconds.append((time.perf_counter() - start) / 200 * devices)
    median, n, spread = summarise(seconds)
    case = f"reading {devices} windows out of their columns, without the database"
    return Row(case, median, "s", n=n, spread=spread)


if __name__ == "__main__":
    write_document(run())
