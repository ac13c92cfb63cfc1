# SPDX-License-Identifier: Apache-2.0
"""What people read and do about alerts, over HTTP and by command line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from fleet.alerts import feature
from fleet.alerts.engine import AlertEngine
from fleet.api.factory import make_application
from fleet.auth.tokens import TokenBook
from fleet.cli import make_parser
from fleet.client import FleetClient
from fleet.commands import Answer
from fleet.config import AlertsConfig
from fleet.errors import RemoteError
from fleet.services import Feature
from fleet.store.alert_tables import deliveries
from fleet.store.engine import reading
from fleet.store.tables import audit
from tests.support.fleet_world import FleetWorld, MemoryBus
from tests.support.http_server import serve

BOOK = TokenBook(admin="a-token", server_id="test")
SECOND = 1_000_000


@dataclass
class Site:
    """A world whose devices fell silent, behind its real routes."""

    world: FleetWorld
    engine: AlertEngine
    http: httpx.Client

    def run(self, *words: str) -> Answer:
        """Run a verb of the command line."""
        arguments = make_parser().parse_args(["alert", *words])
        answer: Answer = arguments.handler(arguments, FleetClient(self.http))
        return answer

    def fall_silent(self, *names: str) -> None:
        """Let devices be heard once and then no more."""
        self.world.ingest(*(self.world.device(one).window(1) for one in names))
        self.world.clock.now_us += 901 * SECOND
        self.engine.tick()

    def told(self) -> list[str]:
        """Return the ids of queued events."""
        with reading(self.world.engine) as connection:
            rows = connection.execute(select(deliveries.c.body)).scalars().all()
        return [one["id"] for one in rows]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    world = FleetWorld(tmp_path)
    built = feature.build(world.services(), MemoryBus())
    engine = AlertEngine(world.engine, world.clock, AlertsConfig(), ["topic"])
    app = make_application([Feature("alerts", built.routers)], BOOK)
    headers = {"Authorization": f"Bearer {BOOK.admin}"}
    with serve(app) as url, httpx.Client(base_url=url, headers=headers) as http:
        yield Site(world, engine, http)
    world.engine.dispose()


def test_list_and_show_say_what_it_is_and_who_was_told(site: Site) -> None:
    assert site.run("list").text == "Nothing needs you."

    site.fall_silent("watch-1")

    assert "watch-1: nothing heard for 15 minutes" in site.run("list").text
    shown = site.run("show", "1")
    assert "topic, opened: waits" in shown.text
    assert shown.document["rule"] == "device_silent"
    assert site.run("list", "--fleet", "other").document["alerts"] == []


def test_ack_and_notes_are_kept_with_the_alert(site: Site) -> None:
    site.fall_silent("watch-1")

    site.run("ack", "1", "--note", "on the way")
    answer = site.run("note", "1", "the fan was dusty")

    assert answer.document["acked_by"] == "admin"
    assert [one["text"] for one in answer.document["notes"]] == [
        "on the way",
        "the fan was dusty",
    ]
    assert "seen by admin" in site.run("list").text
    with reading(site.world.engine) as connection:
        actions = connection.execute(select(audit.c.action)).scalars().all()
    assert actions == ["alert.ack"]


def test_a_mute_opens_untold_and_its_end_tells(site: Site) -> None:
    site.run("mute", "watch-1", "--hours", "2", "--reason", "maintenance")
    site.fall_silent("watch-1", "watch-2")

    assert len(site.run("list").document["alerts"]) == 2
    assert site.told() == ["alert-2-opened"]
    assert "maintenance" in site.run("list").text

    site.run("unmute", "watch-1")
    site.engine.tick()
    assert site.told() == ["alert-2-opened", "alert-1-opened"]
    with pytest.raises(RemoteError, match="expected one that holds, found none"):
        site.run("unmute", "watch-1")


def test_a_mute_ends_by_itself(site: Site) -> None:
    site.run("mute", "--rule", "device_silent", "--hours", "1", "--reason", "move")
    site.fall_silent("watch-1")
    assert site.told() == []

    site.world.clock.now_us += 3600 * SECOND
    site.engine.tick()

    assert site.told() == ["alert-1-opened"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "7"), "alert 7: expected an alert of this server, found none"),
        (("ack", "7"), "alert 7: expected an alert of this server, found none"),
        (("note", "7", ""), "expected a note, found an empty one"),
        (("mute", "--fleet", "x", "--reason", "r"), "expected one of default, or"),
    ],
)
def test_what_is_wrong_is_named(
    site: Site, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RemoteError, match=message):
        site.run(*words)
