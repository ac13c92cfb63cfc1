# SPDX-License-Identifier: Apache-2.0
"""Agents and server as real processes, killed at odd moments: the books stay exact."""

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_contract.enrolment import Enrolment
from edge_contract.envelope import seal
from edge_contract.topics import up_topic
from tests.support.agent_home import AgentHome, await_value, program
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.fleet_device import FakeDevice
from tests.support.fleet_process import MqttDevice, ServerProcess, ask_fleet, run_fleet

pytestmark = pytest.mark.slow
CONFIG = """\
ingest: {ack_interval: 200ms}
rollout: {tick: 200ms, announce_spread: 0s}
"""
ACCEPTED = ("--accept-insufficient-evidence", "a fleet of two in a test")


class Site:
    """One server and two agents below a folder."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        stack.callback(self.close)
        self.homes: dict[str, AgentHome] = {}
        self.folder = folder
        self.state = folder / "server"
        done = run_fleet("init", "--json", state=self.state)
        assert done.returncode == 0, done.stderr
        self.builder_key = self.state / "keys" / "offline" / "models.pem"
        (self.state / "fleet.yaml").write_text(CONFIG)
        self.server = ServerProcess(self.state)
        for name in ("left", "right"):
            self.homes[name] = self._add_device(name)

    def _add_device(self, name: str) -> AgentHome:
        folder = self.folder / name
        folder.mkdir()
        home = AgentHome(folder, rate=200)
        output = str(folder / "enrol")
        added = ask_fleet("device", "add", name, "-o", output, state=self.state)
        file = Path(added["devices"][name])
        command = [*program(), "enrol", str(file), "--config", str(home.config)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not file.exists()
        home.record()
        return home

    def publish(self, recipe: ModelRecipe) -> str:
        """Build, publish and roll out a release; return its digest."""
        path = self.folder / f"{recipe.seed}.bundle"
        digest = make_bundle(path, recipe, sign_key=self.builder_key.read_bytes())
        key = str(self.builder_key)
        release = ask_fleet(
            "model", "publish", str(path), "--key", key, state=self.state
        )
        number = str(release["release"])
        model = ("--model", recipe.name, "--release", number)
        ask_fleet(
            "rollout", "create", *model, "--canary", "1", *ACCEPTED, state=self.state
        )
        return digest

    def await_serving(self, digest: str) -> None:
        """Wait until both agents serve a release."""
        for home in self.homes.values():
            await_value(
                home.read_status,
                lambda status: status.get("serving") == {"main": digest},
            )

    def restart_server(self) -> None:
        """Kill the server, and start it again on its state folder."""
        self.server.kill()
        self.server = ServerProcess(self.state)

    def totals(self, name: str) -> dict[str, Any]:
        """Return what the server counted of a device."""
        totals: dict[str, Any] = ask_fleet("device", "show", name, state=self.state)[
            "totals"
        ]
        return totals

    def check_books(self, name: str) -> None:
        """Stop an agent; what it made must be what the server counted, to the unit."""
        home = self.homes[name]
        home.stop()
        status = home.read_status()
        assert status["outbox_pending"] == 0
        totals = self.totals(name)
        counted = totals["inferences"] + totals["failed"] + totals["lost"]
        assert counted + status["open_inferences"] == status["produced"]
        assert totals["windows"] == status["windows_closed"]

    def close(self) -> None:
        """End every process."""
        for home in self.homes.values():
            home.close()
        if self.server.process.poll() is None:
            self.server.kill()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_kills_on_both_sides_lose_nothing_and_count_nothing_twice(site: Site) -> None:
    moments = random.Random(7)  # noqa: S311 - a reproducible choice of moments
    for home in site.homes.values():
        home.start()
    first = site.publish(ModelRecipe(seed=1))
    site.await_serving(first)

    for _ in range(3):
        left = site.homes["left"]
        left.await_produced(left.read_counter() + moments.randint(20, 120))
        left.kill()
        left.start()
    site.restart_server()
    right = site.homes["right"]
    right.await_produced(right.read_counter() + 150)
    site.restart_server()
    for home in site.homes.values():
        home.await_status("connected", value=True)
        home.await_produced(home.read_counter() + 50)

    for name in site.homes:
        site.check_books(name)
    assert site.totals("right")["lost"] == 0


def test_a_new_release_is_swapped_in_without_a_failed_inference(site: Site) -> None:
    for home in site.homes.values():
        home.start()
    site.await_serving(site.publish(ModelRecipe(seed=1)))
    second = site.publish(ModelRecipe(seed=2))
    site.await_serving(second)

    for name, home in site.homes.items():
        home.await_produced(home.read_counter() + 50)
        site.check_books(name)
        results = home.read_results()
        assert not [one for one in results if "error" in one]
        assert {one["digest"] for one in results} > {second}
        assert len(results) == home.read_counter()


def test_a_release_that_fails_its_golden_vectors_never_serves(site: Site) -> None:
    for home in site.homes.values():
        home.start()
    good = site.publish(ModelRecipe(seed=1))
    site.await_serving(good)
    bad = site.publish(ModelRecipe(seed=2, wrong_golden=True))

    def reports() -> list[dict[str, Any]]:
        return [
            one
            for name in site.homes
            for one in ask_fleet("device", "show", name, state=site.state)["updates"]
            if one["digest"] == bad and one["state"] == "FAILED"
        ]

    await_value(reports, lambda found: len(found) == 1)

    for home in site.homes.values():
        assert home.read_status()["serving"] == {"main": good}
    shown = ask_fleet("rollout", "list", state=site.state)["rollouts"]
    newest = max(shown, key=lambda one: int(one["id"].removeprefix("r")))
    assert newest["state"] != "completed"


def test_forged_moved_and_replayed_windows_change_no_total(site: Site) -> None:
    name = "right"
    home = site.homes[name]
    home.start()
    first = site.publish(ModelRecipe(seed=1))
    site.homes["left"].start()
    site.await_serving(first)
    home.await_produced(100)
    site.check_books(name)
    site.homes["left"].stop()
    before = site.totals(name)
    enrolment = Enrolment.from_json((home.state_dir / "device.json").read_bytes())
    device = MqttDevice(enrolment)
    device.connect()
    topic = up_topic("default", name, "window")
    forger = FakeDevice(name, enrolment.keys)
    real = forger.window(10**6)
    moved = up_topic("default", "left", "window")

    device.send(
        (topic, seal(b"\xa0", key=bytes(32), epoch=1, aad=topic)),
        (moved, real[1]),
        (topic, b"not an envelope"),
    )

    def refusals() -> dict[str, int]:
        found: dict[str, int] = {}
        for one in site.homes:
            shown = ask_fleet("device", "show", one, state=site.state)
            for reason, count in shown["refusals"].items():
                found[reason] = found.get(reason, 0) + count
        return found

    found = await_value(refusals, lambda value: sum(value.values()) >= 3)
    device.close()
    assert found["mac"] == 2
    assert {key: site.totals(name)[key] for key in ("windows", "inferences")} == {
        key: before[key] for key in ("windows", "inferences")
    }


def test_infer_refuses_an_unsigned_bundle_and_takes_a_signed_one(
    tmp_path: Path,
) -> None:
    make_bundle(tmp_path / "a.bundle")
    command = [sys.executable, "-m", "edge_agent.cli", "infer"]
    data = tmp_path / "x.npy"
    data.write_bytes(b"")

    done = subprocess.run(
        [*command, str(tmp_path / "a.bundle"), "--input", str(data), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert "unsigned" in done.stderr
    assert "Next:" in done.stderr
