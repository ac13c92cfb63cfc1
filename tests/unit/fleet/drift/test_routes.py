# SPDX-License-Identifier: Apache-2.0
"""What people read and do about verdicts, over HTTP and by command line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from edge_contract.binning import Float64
from fleet.api.factory import make_application
from fleet.auth.tokens import TokenBook
from fleet.cli import make_parser
from fleet.client import FleetClient
from fleet.commands import Answer
from fleet.config import FleetConfig, StateLayout
from fleet.drift import feature
from fleet.drift.fleetwide.engine import FleetwideEngine
from fleet.drift.fleetwide.finding import Closing, Finding, Move
from fleet.drift.fleetwide.materiality import Distance
from fleet.drift.fleetwide.state import Judged
from fleet.errors import RemoteError
from fleet.services import Feature, Services
from fleet.store.engine import reading, writing
from fleet.store.tables import audit
from tests.support.drift_fleet import FIRST_SLOT, DriftFleet
from tests.support.fleet_world import MemoryBus, MemoryDownlink
from tests.support.http_server import serve

BOOK = TokenBook(admin="a-token", server_id="test")
SLOT = FIRST_SLOT + 6
MOVE = Move("f0", "mean", 0.5, 9e6, (15, 0), Distance(0.2, 0.5, 0.3, 900))
DEVICE = Finding("device", "d3", (MOVE,), SLOT, SLOT - 4, streams=20)
WORLD = Finding(
    "world", "world", (Move("f1", "mean", -0.2, 30.0),), SLOT, SLOT - 9, devices=10
)


@dataclass
class Site:
    """A fleet behind its real routes."""

    fleet: DriftFleet
    http: httpx.Client

    def run(self, *words: str) -> Answer:
        """Run a verb of the command line."""
        arguments = make_parser().parse_args(["drift", *words])
        answer: Answer = arguments.handler(arguments, FleetClient(self.http))
        return answer

    def write(self, *outcomes: Finding | Closing) -> None:
        """Let the engine write verdicts, as if its rule had found them."""
        with writing(self.fleet.engine) as connection:
            engine = FleetwideEngine(
                "default", self.fleet.profile, self.fleet.clock, connection
            )
            for one in outcomes:
                engine._write(connection, one, SLOT)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    fleet = DriftFleet(tmp_path)
    fleet.store(6)
    fleet.drift().tick()
    services = Services(
        FleetConfig(),
        StateLayout(tmp_path),
        fleet.engine,
        fleet.clock,
        MemoryDownlink(),
    )
    built = feature.build(services, MemoryBus())
    app = make_application([Feature("drift", built.routers)], BOOK)
    headers = {"Authorization": f"Bearer {BOOK.admin}"}
    with serve(app) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield Site(fleet, http)
    fleet.engine.dispose()


def open_verdicts(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.run("list").document["verdicts"]
    return found


def test_list_names_kind_action_and_words(site: Site) -> None:
    site.write(DEVICE, WORLD)

    answer = site.run("list")

    found = {one["kind"]: one for one in answer.document["verdicts"]}
    assert found["device"]["device"] == "d3"
    assert found["device"]["action"] == "quarantine"
    assert found["device"]["features"][0]["psi"] == 0.3
    assert found["world"]["device"] is None
    assert found["world"]["subject"] == "world"
    assert found["world"]["action"] == "retrain"
    assert "The whole fleet moved (f1: mean 0.20 sd lower)" in answer.text
    assert "10 devices are judged together" in answer.text


def test_the_same_finding_again_opens_no_second_verdict(site: Site) -> None:
    site.write(DEVICE)
    site.write(DEVICE)

    assert len(open_verdicts(site)) == 1


def test_a_closing_closes_only_what_is_older(site: Site) -> None:
    site.write(Finding("device", "d3", (MOVE,), SLOT - 1, SLOT - 4))
    site.write(Closing("device", "d3", "back at its baseline"))
    site.write(DEVICE)
    site.write(Closing("device", "d3", "late"))

    assert [one["closed_us"] for one in open_verdicts(site)] == [None]
    shown = site.run("show", "d3").document["verdicts"]
    assert [one["close_reason"] for one in shown] == [None, "back at its baseline"]


def test_an_ack_is_kept_with_who_and_audited(site: Site) -> None:
    site.write(DEVICE)
    (verdict,) = open_verdicts(site)

    answer = site.run("ack", str(verdict["id"]))

    assert answer.text == f"verdict {verdict['id']} on d3: seen"
    (after,) = open_verdicts(site)
    assert after["acked_by"] == "admin"
    with reading(site.fleet.engine) as connection:
        rows = connection.execute(select(audit.c.action, audit.c.subject)).all()
    assert [tuple(one) for one in rows] == [("drift.ack", "d3")]


def test_relearn_closes_and_the_engine_starts_the_device_afresh(site: Site) -> None:
    site.write(DEVICE)
    (verdict,) = open_verdicts(site)
    with writing(site.fleet.engine) as connection:
        engine = FleetwideEngine(
            "default", site.fleet.profile, site.fleet.clock, connection
        )
        engine._state.judged[3] = Judged(SLOT, {(0, 0): 0.5}, provisional=False)
        engine._state.history.learning[3] = False
        engine.tick(connection)
        assert 3 in engine._state.judged

    site.run("ack", str(verdict["id"]), "--relearn")

    with writing(site.fleet.engine) as connection:
        engine.tick(connection)
    assert engine._state.judged == {}
    assert bool(engine._state.history.learning[3])


def test_a_world_cannot_learn_anew(site: Site) -> None:
    site.write(WORLD)
    (verdict,) = open_verdicts(site)

    with pytest.raises(RemoteError, match="found world of world"):
        site.run("ack", str(verdict["id"]), "--relearn")


def test_a_muted_subject_opens_nothing_until_it_ends(site: Site) -> None:
    site.run("mute", "d3", "--hours", "2", "--reason", "maintenance")

    site.write(Finding("device", "d3", (MOVE,), SLOT - 1, SLOT - 4))
    assert open_verdicts(site) == []
    site.fleet.clock.now_us += 3 * 3600 * 1_000_000
    site.write(DEVICE)

    assert [one["device"] for one in open_verdicts(site)] == ["d3"]
    closed = site.run("show", "d3").document["verdicts"][1]
    assert closed["close_reason"] == "muted"


def test_what_does_not_matter_is_noted_and_closed_at_once(site: Site) -> None:
    site.write(Finding("device", "d1", (MOVE,), SLOT, SLOT - 2, is_material=False))

    assert open_verdicts(site) == []
    (noted,) = site.run("show", "d1").document["verdicts"]
    assert noted["close_reason"] == "detected, not material"
    assert noted["action"] == "nothing"


def test_unknown_verdicts_devices_and_fleets_are_named(site: Site) -> None:
    with pytest.raises(RemoteError, match="verdict 77: expected a verdict"):
        site.run("ack", "77")
    with pytest.raises(RemoteError, match="d99"):
        site.run("show", "d99")
    with pytest.raises(RemoteError, match="found nowhere"):
        site.run("mute", "d1", "--reason", "x", "--fleet", "nowhere")


def test_the_pool_of_stored_windows_is_their_exact_sum(site: Site) -> None:
    with reading(site.fleet.engine) as connection:
        engine = FleetwideEngine(
            "default", site.fleet.profile, site.fleet.clock, connection
        )
        pool = engine._pool(connection)
        some: Float64 | None = pool.sum_counts(2, FIRST_SLOT + 1, FIRST_SLOT + 3)

    assert some is not None
    assert some.sum(axis=1).tolist() == [120.0, 120.0]
