# SPDX-License-Identifier: Apache-2.0
"""Verdicts on their topic: at least once, whatever dies."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from fleet.drift.teller import VerdictTeller
from fleet.store.engine import writing
from fleet.store.tables import verdicts
from tests.support.fleet_world import FleetWorld, MemoryBus


def open_world_verdict(world: FleetWorld, **more: Any) -> None:
    with writing(world.engine) as connection:
        connection.execute(
            insert(verdicts).values(
                subject="world",
                fleet="default",
                ref_id=bytes(8),
                kind="world",
                provisional=False,
                opened_us=1,
                evidence={"summary": "The whole fleet moved."},
                **more,
            )
        )


def told(bus: MemoryBus) -> list[str]:
    return [json.loads(data)["id"] for _, data, _ in bus.published]


def test_opening_and_closing_are_told_once_each(tmp_path: Path) -> None:
    world, bus = FleetWorld(tmp_path), MemoryBus()
    teller = VerdictTeller(world.engine, bus)
    open_world_verdict(world)

    teller.run()
    teller.run()
    with writing(world.engine) as connection:
        connection.execute(update(verdicts).values(closed_us=2, close_reason="over"))
    teller.run()
    teller.run()

    assert told(bus) == ["verdict-1-opened", "verdict-1-closed"]
    topic, data, retain = bus.published[1]
    assert (topic, retain) == ("edge/1/default/verdict", False)
    document = json.loads(data)
    assert document["event"] == "closed"
    assert document["verdict"]["close_reason"] == "over"
    assert document["verdict"]["summary"] == "The whole fleet moved."


def test_what_the_broker_did_not_confirm_is_told_later(tmp_path: Path) -> None:
    world, bus = FleetWorld(tmp_path), MemoryBus()
    bus.is_up = False
    open_world_verdict(world)
    open_world_verdict(world, closed_us=2, close_reason="detected, not material")
    teller = VerdictTeller(world.engine, bus)

    teller.run()
    assert told(bus) == []
    bus.is_up = True
    VerdictTeller(world.engine, bus).run()

    assert told(bus) == ["verdict-1-opened", "verdict-2-closed"]


def test_a_kill_after_publishing_publishes_the_same_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, bus = FleetWorld(tmp_path), MemoryBus()
    open_world_verdict(world)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("fleet.drift.teller.note_verdict_told", die)
        with pytest.raises(Killed):
            VerdictTeller(world.engine, bus).run()
    VerdictTeller(world.engine, bus).run()

    assert told(bus) == ["verdict-1-opened", "verdict-1-opened"]
