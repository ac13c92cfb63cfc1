# SPDX-License-Identifier: Apache-2.0
"""What devices may send, or not send, must not stop the engine."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, select

from edge_contract.binning import BinTable, equal_mass_edges
from edge_contract.profile import FeatureReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics
from fleet.drift.documents import DriftDocuments
from fleet.drift.fleetwide.engine import FleetwideEngine
from fleet.drift.losses import LossWatch
from fleet.drift.parameters import DriftParameters
from fleet.store.drift import list_states
from fleet.store.drift_fleets import list_views
from fleet.store.engine import reading
from fleet.store.tables import verdicts
from tests.support.drift_fleet import DriftFleet, normal_profile


def constant_profile() -> ReferenceProfile:
    """Return a profile whose second feature never changed."""
    column = np.full((100, 1), 7, dtype=np.float32)
    edges = equal_mass_edges(column[:, 0])
    counts = BinTable([edges]).count(column)
    zeros = (0.0, 0.0, 0.0, 0.0)
    constant = FeatureReference("c", edges, counts, 0, 7.0, 0.0, 7.0, 7.0, *zeros)
    plain = normal_profile()
    return replace(plain, features=(plain.features[0], constant))


def count(fleet: DriftFleet, constant: float) -> WindowStatistics:
    """Count forty rows whose second feature is constant."""
    rows = np.random.default_rng(3).normal(size=(40, 2)).astype(np.float32)
    rows[:, 1] = constant
    builder = StatisticsBuilder(fleet.profile)
    builder.add_rows(rows)
    return builder.statistics


@pytest.mark.parametrize("devices", [3, 10])
def test_a_constant_feature_is_judged_and_shown_like_others(
    tmp_path: Path, devices: int
) -> None:
    fleet = DriftFleet(tmp_path, devices=devices, profile=constant_profile())
    for slot in range(12):
        value = 7.0 if slot < 9 else 9.0
        rows = [
            fleet.row(name, fleet.slot + slot, count(fleet, value))
            for name in fleet.names
        ]
        fleet.insert(rows)
    engine = fleet.drift()

    engine.tick()

    documents = DriftDocuments(engine, DriftParameters())
    with reading(fleet.engine) as connection:
        whole = documents.read_fleet(connection)
        one = documents.read_device(connection, "d1")
    assert [len(device["features"]) for device in whole["devices"]] == [2] * devices
    shifts = [feature["mean_shift_sd"] for feature in one["features"]]
    assert np.isfinite(shifts).all()
    constant = one["histograms"][1]
    assert np.isfinite(constant["live"]).all()
    assert constant["above"] > 0


@pytest.mark.parametrize("devices", [3, 10])
def test_a_window_of_a_billion_rows_and_none_at_all(
    tmp_path: Path, devices: int
) -> None:
    fleet = DriftFleet(tmp_path, devices=devices)
    fleet.store(4)
    plain = fleet.statistics(rows=40)
    many = 25_000_000
    huge = replace(
        plain,
        rows=plain.rows * many,
        counts=plain.counts * many,
        m2=plain.m2 * many,
    )
    fleet.insert(
        [
            fleet.row("d0", fleet.slot, huge),
            fleet.row("d1", fleet.slot, fleet.statistics(rows=0)),
        ]
    )
    fleet.store(4)

    fleet.drift().tick()
    LossWatch(fleet.engine, fleet.clock).tick()

    with reading(fleet.engine) as connection:
        told = list_views(connection) or list_states(connection)
        assert told
        assert connection.execute(select(verdicts)).all() == []


def test_a_defect_in_one_fleet_silences_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = DriftFleet(tmp_path)
    fleet.store(6)
    fleet.swap_profile(normal_profile(features=3))
    fleet.store(6)
    odd, calls = normal_profile().ref_id, []
    tick = FleetwideEngine.tick

    def fail_on_one(self: FleetwideEngine, connection: Connection) -> bool:
        behind = tick(self, connection)
        calls.append(self._profile.ref_id)
        if self._profile.ref_id == odd:
            msg = "a window that no test knew"
            raise ValueError(msg)
        return behind

    monkeypatch.setattr(FleetwideEngine, "tick", fail_on_one)
    fleet.drift().tick()

    with reading(fleet.engine) as connection:
        judged = [bytes(one["ref_id"]) for one in list_views(connection)]
    assert judged == [fleet.profile.ref_id]
    assert set(calls) == {odd, fleet.profile.ref_id}

    # Mended, it goes on from what is stored.
    monkeypatch.setattr(FleetwideEngine, "tick", tick)
    fleet.drift().tick()
    with reading(fleet.engine) as connection:
        assert {bytes(one["ref_id"]) for one in list_views(connection)} == set(calls)
