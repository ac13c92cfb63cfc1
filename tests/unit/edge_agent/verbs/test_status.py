# SPDX-License-Identifier: Apache-2.0
"""``edge-agent status`` for people: an update that waits, until when, and why."""

from datetime import UTC, datetime
from pathlib import Path

from edge_agent.config import load_layers
from edge_agent.daemon.status import write_status
from edge_agent.ota.machine import Journal, UpdateRecord
from edge_agent.ota.slots import Slots
from edge_agent.ota.updater import Updater
from edge_agent.verbs.health import show_status
from tests.support.manual_clock import ManualClock

OPENS_US = 1_800_000_000_000_000


def test_a_waiting_update_is_in_the_status(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "update.json")
    record = UpdateRecord(slot="main", digest="a" * 64, target="models/toy-2.bundle")
    journal.begin(record)
    journal.defer("agent.update.window", "no maintenance window is open", OPENS_US)
    updater = Updater(
        command=[],
        folder=tmp_path,
        slots=Slots(tmp_path),
        clock=ManualClock(),
        poll_us=10**12,
        report=lambda _: None,
    )
    status = {"slots": {"main": {"state": "no model", "update": updater.describe()}}}
    write_status(tmp_path, status)
    config = tmp_path / "agent.yaml"
    config.write_text(f"state_dir: {tmp_path}\nmodels: {{main: {{}}}}\n")
    told = show_status(load_layers(config).resolve().config)

    opens = datetime.fromtimestamp(OPENS_US / 1e6, UTC).astimezone()
    assert (
        f"  update: DEFERRED: models/toy-2.bundle until {opens:%Y-%m-%d %H:%M %Z} "
        "(agent.update.window: no maintenance window is open)"
    ) in told.text.splitlines()
    update = told.document["slots"]["main"]["update"]
    assert (update["state"], update["deferred_until_us"]) == ("DEFERRED", OPENS_US)
