# SPDX-License-Identifier: Apache-2.0
"""A muted device of a small fleet: no verdict until the mute ends."""

from pathlib import Path

from sqlalchemy import select

from fleet.store.drift import replace_mute
from fleet.store.engine import reading, writing
from fleet.store.tables import verdicts
from tests.support.drift_fleet import DriftFleet


def read_verdicts(fleet: DriftFleet) -> list[str]:
    with reading(fleet.engine) as connection:
        rows = connection.execute(select(verdicts.c.subject)).scalars()
        return sorted(rows)


def test_a_mute_holds_a_small_fleets_verdict_back_and_no_other(tmp_path: Path) -> None:
    fleet = DriftFleet(tmp_path, devices=3)
    until_us = fleet.clock.wall_us() + 3_600_000_000
    with writing(fleet.engine) as connection:
        values = {"until_us": until_us, "reason": "moved", "created_by": "admin"}
        replace_mute(connection, "default", "d0", values)
    fleet.store(30)
    fleet.store(60, {"d0": 3.0, "d1": 3.0})

    fleet.drift().tick()
    assert read_verdicts(fleet) == ["d1"]

    fleet.clock.now_us = until_us
    fleet.store(1, {"d0": 3.0, "d1": 3.0})
    fleet.drift().tick()
    assert read_verdicts(fleet) == ["d0", "d1"]
