# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from fleet.drift.documents import DriftDocuments
from fleet.drift.fleetwide.engine import FleetwideEngine
from fleet.drift.fleetwide.finding import Finding, Move
from fleet.drift.parameters import DriftParameters
from fleet.store.engine import reading, writing
from fleet.store.tables import drift_fleets, drift_views, verdicts
from tests.support.drift_fleet import FIRST_SLOT, DriftFleet, normal_profile

MOVED = {"d3": 2.0}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[DriftFleet]:
    fleet = DriftFleet(tmp_path)
    yield fleet
    fleet.engine.dispose()


def read_verdicts(fleet: DriftFleet) -> list[dict[str, Any]]:
    with reading(fleet.engine) as connection:
        rows = connection.execute(select(verdicts).order_by(verdicts.c.id)).mappings()
        return [
            {
                "subject": row["subject"],
                "kind": row["kind"],
                "slot": row["slot"],
                "evidence": row["evidence"],
                "closed": row["close_reason"],
            }
            for row in rows
        ]


@pytest.mark.slow
def test_a_moved_device_is_flagged_alone_and_found_the_same_after_restarts(
    tmp_path: Path,
) -> None:
    found = []
    for number, restarts in enumerate((False, True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        fleet = DriftFleet(folder)
        engine = fleet.drift()
        fleet.store(300)
        engine.tick()
        for _ in range(10):
            fleet.store(3, MOVED)
            engine = fleet.drift() if restarts else engine
            engine.tick()
        found.append(read_verdicts(fleet))
        fleet.engine.dispose()

    assert found[0] == found[1]
    assert [(one["kind"], one["subject"]) for one in found[0]] == [("device", "d3")]
    evidence = found[0][0]["evidence"]
    assert [one["name"] for one in evidence["features"]] == ["f0"]
    assert evidence["action"] == "quarantine"
    assert evidence["material"] is True
    assert evidence["change_us"] == (FIRST_SLOT + 300) * 300_000_000


@pytest.mark.slow
def test_a_kill_before_the_state_is_stored_opens_nothing_twice(
    fleet: DriftFleet,
) -> None:
    fleet.store(300)
    fleet.drift().tick()
    with reading(fleet.engine) as connection:
        before = connection.execute(select(drift_fleets)).mappings().all()
    fleet.store(20, MOVED)
    fleet.drift().tick()
    once = read_verdicts(fleet)
    with writing(fleet.engine) as connection:
        connection.execute(drift_fleets.delete())
        connection.execute(drift_fleets.insert(), [dict(one) for one in before])

    fleet.drift().tick()

    assert len(once) == 1
    assert read_verdicts(fleet) == once


def write_verdict(fleet: DriftFleet, finding: Finding) -> None:
    with writing(fleet.engine) as connection:
        engine = FleetwideEngine("default", fleet.profile, fleet.clock, connection)
        engine._write(connection, finding, finding.slot)


def test_another_model_closes_what_was_said_under_the_former(fleet: DriftFleet) -> None:
    fleet.store(6)
    fleet.drift().tick()
    move = (Move("f0", "mean", 0.5),)
    write_verdict(fleet, Finding("device", "d3", move, fleet.slot, fleet.slot))
    write_verdict(fleet, Finding("world", "world", move, fleet.slot, fleet.slot))

    fleet.swap_profile(normal_profile(features=3))
    fleet.store(6)
    fleet.drift().tick()

    closed = {one["subject"]: one["closed"] for one in read_verdicts(fleet)}
    reason = "another model serves (new reference)"
    assert closed == {"d3": reason, "world": reason}


def test_odd_windows_are_counted_apart_and_stop_nothing(fleet: DriftFleet) -> None:
    fleet.store(6)
    engine = fleet.drift()
    engine.tick()
    late = fleet.row("d1", FIRST_SLOT - 12, fleet.statistics())
    early = fleet.row("d2", FIRST_SLOT + 5000, fleet.statistics())
    torn = fleet.row("d4", fleet.slot, fleet.statistics(), counts=b"\x01")
    empty = fleet.row("d5", fleet.slot, fleet.statistics(rows=0))
    fleet.insert([late, early, torn, empty])
    fleet.store(6)
    engine.tick()

    with reading(fleet.engine) as connection:
        view = connection.execute(select(drift_views.c.document)).scalar_one()
    assert view["refused"] == {"ahead": 1, "damaged": 1, "late": 1}
    assert view["counted"]["devices"] == 10
    assert view["counted"]["learning"] == 10


def test_documents_name_scope_and_devices_of_a_large_fleet(fleet: DriftFleet) -> None:
    fleet.store(6)
    engine = fleet.drift()
    engine.tick()
    documents = DriftDocuments(engine, DriftParameters())

    with reading(fleet.engine) as connection:
        whole = documents.read_fleet(connection)
        one = documents.read_device(connection, "d1")

    assert whole["scope"].startswith("10 devices are judged together: world, ")
    assert "Unseasoned" in whole["scope"]
    assert {one["device"] for one in whole["devices"]} == set(fleet.names)
    assert one["status"] == "learning"
    assert one["histogram_windows"] == 6
    assert sum(one["histograms"][0]["live"]) > 0


def test_seven_devices_get_no_verdict_on_the_world_and_are_told_so(
    tmp_path: Path,
) -> None:
    fleet = DriftFleet(tmp_path, devices=7)
    fleet.store(3)
    engine = fleet.drift()
    engine.tick()

    with reading(fleet.engine) as connection:
        whole = DriftDocuments(engine, DriftParameters()).read_fleet(connection)
        stored = connection.execute(select(drift_views)).all()
    fleet.engine.dispose()

    assert "there is no verdict on the world or on a cohort" in whole["scope"]
    assert len(whole["devices"]) == 7
    assert stored == []
