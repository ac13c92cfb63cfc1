# SPDX-License-Identifier: Apache-2.0
"""Having devices do something about drift: the command that each verb sends."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import literal_column, select

from fleet.api.factory import make_application
from fleet.auth.tokens import TokenBook
from fleet.cli import make_parser
from fleet.client import FleetClient
from fleet.commands import Answer
from fleet.devices.downlink import MqttDownlink
from fleet.drift import feature
from fleet.drift.offers import offer_commands
from fleet.errors import RemoteError
from fleet.samples import feature as samples_feature
from fleet.services import Feature
from fleet.store.engine import reading
from fleet.store.tables import audit, outbound
from tests.support.fleet_world import FleetWorld, MemoryBus
from tests.support.http_server import serve

BOOK = TokenBook(admin="a-token", server_id="test")


@dataclass
class Site:
    """A world behind real routes, and what was sent to its devices."""

    world: FleetWorld
    http: httpx.Client

    def run(self, *words: str) -> Answer:
        """Run a verb of the command line."""
        arguments = make_parser().parse_args(list(words))
        answer: Answer = arguments.handler(arguments, FleetClient(self.http))
        return answer

    def commands(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return the commands that wait for devices, in order."""
        query = select(outbound).order_by(literal_column("rowid"))
        with reading(self.world.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [(one["device"], one["kind"], one["arguments"]) for one in rows]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    world = FleetWorld(tmp_path)
    bus = MemoryBus()
    downlink = MqttDownlink(world.engine, world.ring, world.clock, bus)
    services = replace(world.services(), downlink=downlink)
    features = [
        Feature("drift", feature.build(services, bus).routers),
        Feature("samples", samples_feature.build(services, world.ring).routers),
    ]
    headers = {"Authorization": f"Bearer {BOOK.admin}"}
    with (
        serve(make_application(features, BOOK)) as url,
        httpx.Client(base_url=url, headers=headers) as http,
    ):
        yield Site(world, http)
    world.engine.dispose()


def test_labels_and_quarantine_are_commands_with_a_reason(site: Site) -> None:
    answer = site.run(
        "drift", "labels", "watch-1", "--frames", "50", "--reason", "concept"
    )
    site.run("drift", "quarantine", "watch-1", "--slot", "main", "--reason", "left arm")
    site.run("drift", "quarantine", "watch-1", "--off", "--reason", "back")

    assert "its answer is in edge-fleet device show watch-1" in answer.text
    wish = {"select": "near-threshold", "frames": 50, "seconds": 86_400}
    assert site.commands() == [
        ("watch-1", "feedback-request", wish | {"reason": "concept"}),
        ("watch-1", "quarantine", {"slot": "main", "on": True, "reason": "left arm"}),
        ("watch-1", "quarantine", {"on": False, "reason": "back"}),
    ]
    with reading(site.world.engine) as connection:
        actions = connection.execute(select(audit.c.action)).scalars().all()
    assert actions == ["drift.feedback-request"] + ["drift.quarantine"] * 2


@pytest.mark.parametrize(
    "words",
    [
        ("drift", "labels", "watch-1", "--frames", "0", "--reason", "r"),
        ("drift", "labels", "watch-1", "--frames", "257", "--reason", "r"),
        ("drift", "quarantine", "watch-1", "--reason", ""),
        ("drift", "quarantine", "watch-1", "--reason", "r" * 201),
    ],
)
def test_what_a_device_would_refuse_is_refused_here(
    site: Site, words: tuple[str, ...]
) -> None:
    with pytest.raises(RemoteError):
        site.run(*words)
    assert site.commands() == []


KINDS = ("sensor_fault", "device", "cohort", "world", "concept", "deploy", "season")


def test_every_command_that_is_offered_is_one(site: Site) -> None:
    offered = [
        command
        for kind in KINDS
        for command in offer_commands(
            {"kind": kind, "device": "watch-1", "closed_us": None}
        )
    ]

    for command in set(offered):
        program, *words = command.split()
        assert program == "edge-fleet"
        make_parser().parse_args(words)
        if words[0] in {"drift", "sample"}:
            site.run(*words)
    kinds = {kind for _, kind, _ in site.commands()}
    assert kinds == {"quarantine", "sample", "feedback-request"}
    sample: dict[str, Any] = next(
        arguments for _, kind, arguments in site.commands() if kind == "sample"
    )
    assert sample["select"] == "novelty"
    assert sample["frames"] == 200
    assert sample["reason"] == "drift"
