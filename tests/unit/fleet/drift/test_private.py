# SPDX-License-Identifier: Apache-2.0
"""Private windows among exact ones: judged by their means, and by nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from edge_contract.privacy import derive_moments, sensitivity
from edge_contract.window import WindowStatistics, check_statistics
from fleet.drift.fleetwide.scale import Scale, read_columns
from fleet.store.drift import list_states
from fleet.store.engine import reading
from fleet.store.tables import verdicts
from tests.support.drift_fleet import DriftFleet

EPSILON = 1.0
PRIVATE = ("d1", "d4")
ROWS = 300


def noised(
    fleet: DriftFleet, random: np.random.Generator, shift: float = 0.0
) -> WindowStatistics:
    """Return a private window; the noise is that of windows.md, by numpy."""
    exact, layout = fleet.statistics(shift, rows=ROWS), fleet.profile.layout
    tail = 1 - np.exp(-EPSILON / sensitivity(layout, 1))
    noise = random.geometric(tail, layout.size) - random.geometric(tail, layout.size)
    counts = exact.counts + noise
    counts[layout.below.start : layout.repeat.stop] = 0
    mean, m2 = derive_moments(ROWS, counts, fleet.profile)
    made = replace(
        exact,
        counts=counts,
        mean=mean,
        m2=m2,
        epsilon_millionths=round(EPSILON * 1e6),
    )
    check_statistics(made, fleet.profile)
    return made


@pytest.fixture
def fleet(tmp_path: Path) -> DriftFleet:
    return DriftFleet(tmp_path)


def test_noised_counters_reach_no_rule(fleet: DriftFleet) -> None:
    random = np.random.default_rng(3)
    scale = Scale.read(fleet.profile)

    columns = read_columns(
        [noised(fleet, random), fleet.statistics()], fleet.profile, scale
    )

    for name in ("counts", "missing", "outside", "repeat"):
        assert (columns[name][..., 0] == 0).all()
    assert columns["counts"][..., 1].sum() == 80
    assert np.isfinite(columns["log_variance"]).all()
    assert np.isfinite(columns["mean"]).all()


def test_a_small_fleet_says_nothing_of_private_windows(tmp_path: Path) -> None:
    fleet = DriftFleet(tmp_path, devices=3)
    random = np.random.default_rng(4)
    rows = []
    for slot in range(60):
        one = noised(fleet, random, shift=3.0)
        rows.append(fleet.row("d1", fleet.slot + slot, one))
    fleet.insert(rows)

    fleet.drift().tick()

    with reading(fleet.engine) as connection:
        assert list_states(connection) == []
        assert connection.execute(select(verdicts)).all() == []


@pytest.mark.slow
def test_noise_is_no_drift_and_hides_no_large_one(fleet: DriftFleet) -> None:
    random = np.random.default_rng(5)

    def store(slots: int, shift: float) -> None:
        for _ in range(slots):
            rows = []
            for name in fleet.names:
                if name in PRIVATE:
                    moved = shift if name == "d4" else 0.0
                    one = noised(fleet, random, moved)
                else:
                    one = fleet.statistics()
                rows.append(fleet.row(name, fleet.slot, one))
            fleet.insert(rows)
            fleet.slot += 1

    store(340, 0.0)
    fleet.drift().tick()
    with reading(fleet.engine) as connection:
        assert connection.execute(select(verdicts.c.subject)).all() == []

    store(60, 1.5)
    fleet.drift().tick()

    with reading(fleet.engine) as connection:
        found = connection.execute(select(verdicts)).mappings().all()
    assert [(one["kind"], one["subject"]) for one in found] == [("device", "d4")]
    (move,) = found[0]["evidence"]["features"]
    assert (move["name"], move["channel"]) == ("f0", "location")
    assert move["rows"] == 0
