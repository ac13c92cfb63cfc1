# SPDX-License-Identifier: Apache-2.0
"""What a fleet asks of a running agent: frames, labels, quarantine."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_contract.canonical import decode_cbor
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import unseal
from edge_contract.messages import Command, Reply
from tests.support.agent_home import AgentHome, await_value
from tests.support.mqtt_broker import Mosquitto
from tests.support.server_ear import NEVER_S, ServerEar

CONFIG = """\
state_dir: state
models:
  main:
    source: {type: file, path: source.npz, rate: 100, sample_rate_hz: 1000}
    sinks: [{type: file, path: results.jsonl}]
    feedback: {}
samples: {consent: true, budget: 64KiB}
statistics: {window: 64ms, checkpoint: 50ms}
update: {trial_inferences: 20}
"""


class Site:
    """A device, its broker, the ear of its server, and where samples go."""

    def __init__(self, folder: Path) -> None:
        self.received: dict[str, bytes] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                length = int(self.headers["content-length"])
                site.received[self.path] = self.rfile.read(length)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever).start()
        broker_folder = folder / "broker"
        broker_folder.mkdir()
        self._broker = Mosquitto(broker_folder)
        self._broker.start()
        self.home = AgentHome(folder)
        self.home.config.write_text(CONFIG)
        self.enrolment = Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(range(32)),
            epoch=1,
            tuf_root=b"{}",
            broker_host="127.0.0.1",
            broker_port=self._broker.port,
            api_url=f"http://127.0.0.1:{self._http.server_port}",
        )
        self.enrolment.save(self.home.state_dir / "device.json")
        self.home.record()
        self.home.install()
        self.ear = ServerEar(self.enrolment)
        self.ear.start()
        self._number = 0

    def start(self) -> None:
        self.home.start()
        self.home.await_produced(20)
        self.home.await_status("connected", value=True)

    def ask(self, kind: str, **arguments: Any) -> Reply:
        """Send a command and wait for its reply."""
        self._number += 1
        name = f"c{self._number}"
        self.ear.send(Command(self.ear.next_down_seq(), NEVER_S, name, kind, arguments))
        found = await_value(lambda: self._reply(name), bool, self.home.patience)
        assert isinstance(found, Reply)
        return found

    def _reply(self, name: str) -> Reply | None:
        for message in list(self.ear.messages.values()):
            if isinstance(message, Reply) and message.command == name:
                return message
        return None

    def results(self) -> list[dict[str, Any]]:
        path = self.home.folder / "results.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()[:-1]]

    def slot(self) -> dict[str, Any]:
        found: dict[str, Any] = self.home.read_status()["slots"]["main"]
        return found

    def close(self) -> None:
        self.home.close()
        self.ear.stop()
        self._broker.stop()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_frames_are_picked_sent_and_deleted(site: Site) -> None:
    site.start()

    reply = site.ask(
        "sample", request="r1", select="random", frames=5, seconds=2, reason="drift"
    )

    assert (reply.accepted, reply.fields["rows"]) == (True, 40)
    ((path, body),) = site.received.items()
    assert path == "/api/v1/devices/watch-1/samples/r1/0"
    chunk = decode_cbor(
        unseal(body, key=site.enrolment.keys.up, aad=path), max_bytes=2**20
    )
    assert chunk[1] == [40, 2]
    assert [rows for _, rows in chunk[4]] == [8] * 5
    x = np.frombuffer(chunk[3], "<f4").reshape(40, 2)
    with np.load(site.home.folder / "source.npz") as source:
        known = {row.tobytes() for row in source["x"]}
    assert all(row.tobytes() in known for row in x)
    assert list(site.home.slot_dir.glob("frames-*")) == []


def test_a_request_that_cannot_be_answered_is_refused_with_its_reason(
    site: Site,
) -> None:
    site.start()
    told = {"request": "r1", "reason": "drift"}

    for arguments, problem in (
        ({**told, "select": "best"}, "select: expected one of"),
        ({"request": "r1", "select": "random"}, "reason: expected a text"),
        ({**told, "select": "random", "frames": 0}, "frames: expected 1 to 256"),
        ({**told, "select": "random", "slot": "no"}, "slot: expected one of main"),
        ({**told, "select": "novelty", "seconds": 1}, "no frame was like that"),
    ):
        reply = site.ask("sample", **arguments)
        assert (reply.accepted, reply.code) == (False, "agent.request")
        assert problem in reply.detail
    reply = site.ask("logs")
    assert (reply.accepted, reply.code) == (False, "agent.unsupported")
    assert site.received == {}


def test_what_passes_the_day_is_not_sent(site: Site) -> None:
    site.home.config.write_text(CONFIG.replace("64KiB", "100B"))
    site.start()

    reply = site.ask(
        "sample", request="r1", select="random", frames=5, seconds=1, reason="drift"
    )

    assert (reply.accepted, reply.code) == (False, "agent.upload.budget")
    assert site.received == {}


def test_a_quarantine_marks_results_and_outlives_a_restart(site: Site) -> None:
    site.start()
    found = await_value(site.results, bool, site.home.patience)
    assert "marks" not in found[0]

    reply = site.ask("quarantine", slot="main", on=True, reason="ax is stuck")
    assert reply.fields == {"slot": "main", "on": True, "results": "marked"}
    site.home.kill()
    before = len(site.results())
    site.start()
    await_value(lambda: len(site.results()), lambda found: found > before + 5)
    assert site.results()[-1]["marks"] == ["quarantined"]
    assert site.slot()["quarantine"] == "ax is stuck"

    assert site.ask("quarantine", on=False).accepted
    before = len(site.results())
    await_value(lambda: len(site.results()), lambda found: found > before + 5)
    assert "marks" not in site.results()[-1]
    assert not site.ask("quarantine", on="yes").accepted


def test_answers_are_marked_for_whoever_labels_here(site: Site) -> None:
    site.start()

    reply = site.ask("feedback-request", select="random", frames=3, reason="drift")
    assert reply.fields == {"slot": "main", "frames": 3, "seconds": 3600}

    def marked() -> list[dict[str, Any]]:
        return [one for one in site.results() if "marks" in one]

    await_value(lambda: len(marked()), lambda found: found == 3, site.home.patience)
    before = len(site.results())
    await_value(lambda: len(site.results()), lambda found: found > before + 60)
    assert [one["marks"] for one in marked()] == [["label-wanted"]] * 3


def test_nobody_is_asked_where_nobody_labels(site: Site) -> None:
    site.home.config.write_text(CONFIG.replace("    feedback: {}\n", ""))
    site.start()

    reply = site.ask("feedback-request", select="random", reason="drift")

    assert (reply.accepted, reply.code) == (False, "agent.request")
    assert "nobody labels here" in reply.detail


def test_without_consent_nothing_is_even_picked(site: Site) -> None:
    site.home.config.write_text(CONFIG.replace("consent: true", "consent: false"))
    site.start()

    reply = site.ask("sample", request="r1", select="random", reason="drift")

    assert (reply.accepted, reply.code) == (False, "agent.consent")
    assert site.slot()["is_sampling"] is False
    with closing(sqlite3.connect(site.home.state_dir / "outbox.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
