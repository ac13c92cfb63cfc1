# SPDX-License-Identifier: Apache-2.0
"""``edge-fleet export`` against a running server, after a change of keys."""

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from fleet.auth.actor import name_person
from tests.support.bundles import ModelRecipe
from tests.support.fleet_process import ServerProcess, ask_fleet, run_fleet
from tests.support.fleet_site import Site
from tests.support.tuf_reader import TufReader


@pytest.mark.slow
def test_an_export_for_a_device_and_for_a_fleet(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack, agents={})
        ask_fleet("device", "add", "left", "-o", str(tmp_path), state=site.state)
        early = run_fleet("export", str(tmp_path / "early"), "--json", state=site.state)
        assert json.loads(early.stderr)["error"]["code"] == "fleet.not_found"
        refused = run_fleet("keys", "rotate", "timestamp", state=site.state)
        assert "another edge-fleet uses this state folder" in refused.stderr
        site.publish(ModelRecipe(seed=1))
        site.server.kill()
        root = tmp_path / "enrolled.json"
        ask_fleet("keys", "export-root", str(root), state=site.state)
        assert ask_fleet("keys", "rotate", "timestamp", state=site.state)["in_force"]
        database = sqlite3.connect(site.state / "fleet.sqlite")
        told = database.execute(
            "SELECT actor, subject FROM audit WHERE action = 'keys.propose'"
        ).fetchall()
        database.close()
        assert told == [(name_person(os.getuid()), "timestamp")]
        site.server = ServerProcess(site.state)

        stick = tmp_path / "stick"
        words = ("export", str(stick), "--device", "left")
        done = ask_fleet(*words, state=site.state)

        assert done["targets"] == ["models/toy-1.bundle"]
        found = [one for one in stick.rglob("*") if one.is_file()]
        assert done["bytes"] == sum(
            one.stat().st_size for one in found if one.name != "edgeloop-export.json"
        )
        bundle = (tmp_path / "1.bundle").read_bytes()
        reader = TufReader(stick, tmp_path / "device", root.read_bytes())
        assert reader.read("models/toy-1.bundle") == bundle
        again = ask_fleet("export", str(stick), state=site.state)
        assert (again["fleet"], again["written_bytes"]) == ("default", 0)
        unknown = run_fleet("export", str(stick), "--device", "none", state=site.state)
        assert unknown.returncode == 1
        assert "none" in unknown.stderr
