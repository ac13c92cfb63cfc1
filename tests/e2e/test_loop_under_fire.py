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
from tests.support.agent_home import await_value
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.fleet_device import FakeDevice
from tests.support.fleet_process import MqttDevice, ask_fleet
from tests.support.fleet_site import Site

pytestmark = pytest.mark.slow


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
