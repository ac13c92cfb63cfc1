# SPDX-License-Identifier: Apache-2.0
"""A server killed in every phase of a rollout: nothing is lost, nothing done twice."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fleet.client import open_client, read_address
from fleet.config import StateLayout
from fleet.services import SystemClock
from fleet.store.engine import database_url, open_engine
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.fleet_devices import RecordedFleet
from tests.support.fleet_process import ServerProcess, ask_fleet, run_fleet
from tests.support.randomness import seeded
from tests.support.tuf_reader import TufReader

CONFIG = "rollout: {tick: 20ms}\n"
DEVICES = tuple(f"watch-{number}" for number in range(6))
PATIENCE_SECONDS = 60.0
CREATE = {
    "model": ModelRecipe().name,
    "accept_insufficient_evidence": "six devices of a test",
}


class Killed:
    """A server that is killed at moments given by a seed, and started again."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "server"
        assert run_fleet("init", state=self.state).returncode == 0
        (self.state / "fleet.yaml").write_text(CONFIG)
        engine = open_engine(database_url(StateLayout(self.state).database))
        self.fleet = RecordedFleet(engine, SystemClock())
        self.fleet.add(*DEVICES)
        self.server = ServerProcess(self.state)
        self.random = seeded(6)
        self.kills = 0
        self.versions: list[int] = []

    def publish(self, folder: Path, seed: int) -> str:
        path = folder / f"{seed}.bundle"
        key = StateLayout(self.state).builder_key
        digest = make_bundle(path, ModelRecipe(seed=seed), sign_key=key.read_bytes())
        ask_fleet("model", "publish", str(path), "--key", str(key), state=self.state)
        return digest

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST a body."""
        with open_client(read_address(self.state / "run.json")) as client:
            return client.get(path) if body is None else client.post(path, body)

    def kill(self) -> None:
        time.sleep(self.random.uniform(0, 0.06))  # about three turns of the engine
        self.server.kill()
        self.kills += 1
        self.server = ServerProcess(self.state)

    def await_rollout(self, name: str, is_there: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        shown: Any = None
        while time.monotonic() < deadline:
            shown = self.ask(f"/rollouts/{name}")
            if is_there(shown):
                self.read_desired()
                return shown
            time.sleep(0.05)
        pytest.fail(f"{name} stays where it is: {shown}")

    def read_desired(self) -> dict[str, Any]:
        """Read the document as a new device does, once there is one."""
        root = (self.state / "tuf" / "metadata" / "1.root.json").read_bytes()
        cache = self.state.parent / f"reader-{self.kills}"
        deadline = time.monotonic() + PATIENCE_SECONDS
        content = None
        while content is None and time.monotonic() < deadline:
            reader = TufReader(self.state / "tuf", cache, root)
            content = reader.read("fleets/default/desired.json")
        assert content is not None
        document: dict[str, Any] = json.loads(content)
        self.versions.append(document["desired_version"])
        return document

    def commit(self, digest: str, *devices: str) -> None:
        for device in devices:
            self.fleet.report(device, "DOWNLOADING", digest)
            self.fleet.report(device, "COMMITTED", digest)
            self.fleet.heartbeat(device, digest)

    def bring_to_all(self, name: str, digest: str) -> None:
        """A rollout to all at once."""
        self.ask("/rollouts", CREATE | {"phases": ["all"]})
        self.await_rollout(name, partial(has_phases, ["running"]))
        self.commit(digest, *DEVICES)
        self.await_rollout(name, lambda one: one["state"] == "completed")

    def bring_in_phases(self, digest: str) -> Any:
        """A draft, then three phases; a kill before and after each step."""
        draft = {"phases": ["1", "3", "all"], "draft": True}
        self.ask("/rollouts", CREATE | draft)
        self.kill()
        self.ask("/rollouts/r1/start", {})
        done: set[str] = set()
        for phase in range(3):
            self.kill()
            wanted = ["passed"] * phase + ["running"] + ["pending"] * (2 - phase)
            shown = self.await_rollout("r1", partial(has_phases, wanted))
            self.kill()
            self.commit(digest, *(set(shown["devices"]) - done))
            done |= set(shown["devices"])
        self.kill()
        return self.await_rollout("r1", lambda one: one["state"] == "completed")

    def go_back(self, digest: str) -> None:
        """Roll the second one back, and wait until the devices are told."""
        self.ask("/rollouts/r2/roll-back", {})
        self.kill()
        self.await_rollout("r2", lambda one: one["state"] == "rolled_back")
        deadline = time.monotonic() + PATIENCE_SECONDS
        told: list[str] = []
        while told != [digest] and time.monotonic() < deadline:
            rules = self.read_desired()["slots"]["main"]
            told = [rule["digest"] for rule in rules]
        assert told == [digest]


def list_phases(shown: Any) -> list[str]:
    return [phase["state"] for phase in shown["phases"]]


def has_phases(wanted: list[str], shown: Any) -> bool:
    return list_phases(shown) == wanted


def list_moves(site: Killed) -> list[tuple[str, str, str]]:
    """Return what is on record of rollouts, the oldest first; the chain holds."""
    entries = site.ask("/audit?limit=500")["entries"]
    assert site.ask("/audit/verify")["entries"] == len(entries)
    return [
        (one["subject"], one["action"], one["detail"]["state"])
        for one in entries[::-1]
        if one["action"].startswith("rollout.")
    ]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Killed]:
    site = Killed(tmp_path)
    yield site
    site.server.kill()


def test_a_rollout_survives_a_kill_in_every_phase(site: Killed, tmp_path: Path) -> None:
    completed = site.bring_in_phases(site.publish(tmp_path, 1))

    assert site.kills == 8
    assert completed["outcomes"]["succeeded"] == len(DEVICES)
    # Wishes only ever grow, and no step of a rollout is on record twice.
    assert site.versions == sorted(site.versions)
    assert list_moves(site) == [
        ("r1", "rollout.create", "draft"),
        ("r1", "rollout.start", "running"),
        ("r1", "rollout.gate", "running"),
        ("r1", "rollout.gate", "running"),
        ("r1", "rollout.gate", "running"),
        ("r1", "rollout.gate", "completed"),
    ]


def test_going_back_survives_a_kill(site: Killed, tmp_path: Path) -> None:
    old = site.publish(tmp_path, 1)
    site.bring_to_all("r1", old)
    site.bring_to_all("r2", site.publish(tmp_path, 2))
    site.go_back(old)

    assert site.kills == 1
    assert site.versions == sorted(site.versions)
    assert list_moves(site)[-2:] == [
        ("r2", "rollout.gate", "completed"),
        ("r2", "rollout.roll-back", "rolled_back"),
    ]
