# SPDX-License-Identifier: Apache-2.0
"""A running agent that takes labels: over HTTP, from a file, and by MQTT."""

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import publish

from edge_agent.stats.checkpoint import Checkpoint
from edge_contract.evidence import Feedback as FeedbackCounts
from edge_contract.messages import Event, decode_up
from edge_contract.window_report import WindowReport
from tests.support.agent_home import AgentHome, await_value, unused_port
from tests.support.mqtt_broker import Mosquitto

CONFIG = """\
state_dir: state
models:
  main:
    source: {{type: file, path: source.npz, rate: 100, sample_rate_hz: 1000}}
    sinks: [{{type: file, path: results.jsonl}}]
    feedback:
      labels:
        - {{type: file, path: labels.jsonl}}
        - {{type: mqtt, topics: [plant/labels], port: {broker}}}
service: {{http: "127.0.0.1:{port}"}}
statistics: {{window: 64ms, checkpoint: 50ms}}
update: {{trial_inferences: 20}}
"""


class LabelledHome(AgentHome):
    """A device whose service takes labels."""

    url: str


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Mosquitto(folder)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def home(tmp_path: Path, broker: Mosquitto) -> Iterator[LabelledHome]:
    made = LabelledHome(tmp_path)
    port = unused_port()
    made.config.write_text(CONFIG.format(port=port, broker=broker.port))
    made.url = f"http://127.0.0.1:{port}/edge/v1/models/main/feedback"
    made.enrol()
    made.record()
    made.install()
    yield made
    made.close()


def feedback(home: LabelledHome) -> dict[str, Any]:
    slots = home.read_status().get("slots", {})
    found: dict[str, Any] = slots.get("main", {}).get("feedback") or {}
    return found


def results(home: LabelledHome, count: int, before: int = 0) -> list[dict[str, Any]]:
    """Wait for so many results after the first ``before``, and return them."""
    path = home.folder / "results.jsonl"
    path.touch()

    def read() -> list[dict[str, Any]]:
        whole = path.read_text().splitlines()[:-1]
        return [json.loads(line) for line in whole[before : before + count]]

    found: list[dict[str, Any]] = await_value(
        read, lambda found: len(found) == count, home.patience
    )
    return found


def post(home: LabelledHome, labels: object) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(  # noqa: S310 - loopback
        home.url,
        json.dumps(labels).encode(),
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def told(home: LabelledHome) -> tuple[int, int, list[Event]]:
    """Return labels and errors in all windows, the open one too, and the warnings."""
    events = []
    with closing(sqlite3.connect(home.state_dir / "outbox.sqlite")) as database:
        rows = database.execute("SELECT kind, body FROM rows").fetchall()
        query = "SELECT value FROM meta WHERE name = 'checkpoint/main'"
        (data,) = database.execute(query).fetchone()
    window = Checkpoint.decode(data).window
    still_open = FeedbackCounts.none() if window is None else window.feedback
    labels, errors = int(still_open.labels.sum()), int(still_open.errors.sum())
    for kind, body in rows:
        message = decode_up(kind, body)
        if isinstance(message, WindowReport):
            found = message.feedback()
            labels += 0 if found is None else int(found.labels.sum())
            errors += 0 if found is None else int(found.errors.sum())
        elif isinstance(message, Event) and message.name == "accuracy_drop":
            events.append(message)
    return labels, errors, events


def test_labels_from_three_ways_are_in_the_windows(
    home: LabelledHome, broker: Mosquitto
) -> None:
    home.start()
    by_http = [{"id": one["id"], "label": one["label"]} for one in results(home, 20)]

    status, answer = post(home, [*by_http, by_http[0], {"id": "never", "label": 1}])
    assert (status, answer) == (200, {"taken": 20, "again": 1, "unknown-id": 1})
    assert post(home, {"id": 3})[0] == 400

    wrong = {"low": "high", "middle": "low", "high": "low"}
    lines = [
        json.dumps({"id": one["id"], "label": wrong[one["label"]]})
        for one in results(home, 10, 20)
    ]
    with (home.folder / "labels.jsonl").open("a") as stream:
        stream.write("\n".join(lines) + "\n")
    await_value(
        lambda: feedback(home).get("labels"), lambda found: found == 30, home.patience
    )

    await_value(
        lambda: feedback(home)["inputs"][1].get("connections"), bool, home.patience
    )
    last = results(home, 1, 30)[0]
    message = json.dumps({"id": last["id"], "label": last["label"]})
    publish.single(
        "plant/labels", message, qos=1, hostname="127.0.0.1", port=broker.port
    )
    await_value(
        lambda: feedback(home).get("labels"), lambda found: found == 31, home.patience
    )
    home.stop()

    assert feedback(home)["errors"] == 10
    assert feedback(home)["refused"] == {"again": 1, "unknown-id": 1}
    labels, errors, events = told(home)
    assert (labels, errors, events) == (31, 10, [])


def test_a_model_that_errs_more_than_before_is_told(home: LabelledHome) -> None:
    home.start()
    found = results(home, 400)
    right = [{"id": one["id"], "label": one["label"]} for one in found[:200]]
    wrong = {"low": "high", "middle": "low", "high": "low"}
    bad = [{"id": one["id"], "label": wrong[one["label"]]} for one in found[200:300]]

    assert post(home, right)[1] == {"taken": 200}
    assert post(home, bad)[1] == {"taken": 100}
    home.stop()

    _, _, events = told(home)
    assert len(events) == 1
    assert events[0].severity == "warning"
    assert events[0].fields["slot"] == "main"
    assert events[0].fields["error_ppm"] == 1_000_000
    assert events[0].fields["error_ppm_before"] == 0
