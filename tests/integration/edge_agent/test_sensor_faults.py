# SPDX-License-Identifier: Apache-2.0
"""A running agent whose sensor breaks, is restarted meanwhile, and gets a new one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_contract.messages import Event, decode_up
from tests.support.agent_home import AgentHome, await_value


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AgentHome]:
    made = AgentHome(tmp_path, rate=200)
    made.enrol()
    made.record()
    made.install()
    yield made
    made.close()


def break_first_sensor(home: AgentHome) -> None:
    """Replace the recordings by ones whose first value never comes."""
    with np.load(home.folder / "source.npz") as found:
        x, names = found["x"], found["recording"]
    x[:, 0] = np.nan
    partial = home.folder / ".broken.npz"
    np.savez(partial, x=x, recording=names)
    partial.replace(home.folder / "source.npz")


def faults(home: AgentHome) -> list[dict[str, Any]]:
    slots = home.read_status().get("slots", {})
    found: list[dict[str, Any]] = slots.get("main", {}).get("sensor_faults", [])
    return found


def sensor_events(home: AgentHome) -> list[tuple[int, Event]]:
    """Return lane and event of each that waits in the outbox."""
    path = home.state_dir / "outbox.sqlite"
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT lane, body FROM rows WHERE kind = 'event' ORDER BY seq"
        ).fetchall()
    events = [(lane, decode_up("event", body)) for lane, body in rows]
    return [
        (lane, one)
        for lane, one in events
        if isinstance(one, Event) and one.name.startswith("sensor_")
    ]


def test_a_sensor_that_breaks_is_told_once_and_first(home: AgentHome) -> None:
    home.start()
    home.await_produced(50)
    assert faults(home) == []

    break_first_sensor(home)
    (fault,) = await_value(lambda: faults(home), bool, home.patience)
    assert (fault["feature"], fault["rule"]) == ("f0", "missing")
    home.kill()
    home.start()
    home.await_produced(home.read_counter() + 400)
    home.record()
    await_value(lambda: faults(home), lambda found: not found, home.patience)
    home.stop()

    (lane, onset), (_, end) = sensor_events(home)
    assert lane == 0
    assert (onset.name, onset.severity) == ("sensor_fault", "error")
    told = {key: onset.fields[key] for key in ("slot", "feature", "rule")}
    assert told == {"slot": "main", "feature": "f0", "rule": "missing"}
    assert onset.fields["share_ppm"] == 1_000_000
    assert isinstance(onset.fields["rows"], int)
    assert onset.fields["rows"] >= 64
    assert (end.name, end.severity) == ("sensor_ok", "info")
