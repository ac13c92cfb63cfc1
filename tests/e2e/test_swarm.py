# SPDX-License-Identifier: Apache-2.0
"""Fifty real agents take an update that a tenth of them cannot run.

The rollout stops by itself, who was not reached keeps serving what it had, and one
command takes the others back. A device fails because its runtime dies in every
self-test from a moment on: a real process with a real signal.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_home import await_value
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.fleet_process import ask_fleet
from tests.support.fleet_site import ACCEPTED, Site
from tests.support.swarm import Swarm, allow_seconds

pytestmark = pytest.mark.slow

DEVICES = 50
EVERY = 10  # one device in so many fails
CANARIES = 20
PATIENCE_SECONDS = 300.0
_CONFIG = """\
state_dir: state
models:
  main:
    source: {type: file, path: ../source.npz, rate: 5, sample_rate_hz: 50}
statistics: {window: 60s}
update: {trial_inferences: 5}
"""
# Python runs it before anything else; the self-tests of before must have passed.
_DEATH = """\
import os, sys
if "selftest" in sys.orig_argv and os.path.exists("runtime-is-broken"):
    os.abort()
"""


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    allow_seconds(1200)
    with contextlib.ExitStack() as stack:
        site = Site(tmp_path, stack, {}, patience=PATIENCE_SECONDS)
        names = [f"device-{number:02}" for number in range(DEVICES)]
        swarm = Swarm(site, names, lambda _: _CONFIG)
        next(iter(swarm.homes.values())).record()
        (tmp_path / "device-00" / "source.npz").rename(tmp_path / "source.npz")
        planted = tmp_path / "planted"
        planted.mkdir()
        (planted / "sitecustomize.py").write_text(_DEATH)
        root = Path(__file__).parents[2]
        swarm.environment = {"PYTHONPATH": f"{root}:{planted}"}
        yield swarm


def publish(swarm: Swarm, seed: int) -> tuple[str, str, Path]:
    """Publish a release; return its number, digest and file."""
    site, path = swarm.site, swarm.site.folder / f"{seed}.bundle"
    recipe = ModelRecipe(seed=seed)
    digest = make_bundle(path, recipe, sign_key=site.builder_key.read_bytes())
    told = ("model", "publish", str(path), "--key", str(site.builder_key))
    release = ask_fleet(*told, state=site.state)
    return str(release["release"]), digest, path


def roll_out(swarm: Swarm, number: str, phases: str) -> str:
    told = ("--model", "toy", "--release", number, "--phases", phases, *ACCEPTED)
    made = ask_fleet("rollout", "create", *told, state=swarm.site.state)
    return str(made["id"])


def show(swarm: Swarm, rollout: str) -> dict[str, Any]:
    found: dict[str, Any] = swarm.site.ask(f"/rollouts/{rollout}")
    return found


def serving(swarm: Swarm) -> dict[str, str]:
    """What each device serves, by its own word."""
    return {
        name: home.read_status()["serving"]["main"]
        for name, home in swarm.homes.items()
    }


def test_a_swarm_halts_a_release_that_a_tenth_cannot_run(swarm: Swarm) -> None:
    first, old, path = publish(swarm, 1)
    swarm.install(path, old)
    swarm.start()
    base = roll_out(swarm, first, "all")
    await_value(
        lambda: show(swarm, base)["state"], lambda s: s == "completed", PATIENCE_SECONDS
    )
    second, new, _ = publish(swarm, 2)
    rollout = roll_out(swarm, second, f"{CANARIES},all")
    reached = set(
        await_value(lambda: show(swarm, rollout)["phases"][0]["devices"], bool)
    )
    untouched = swarm.homes.keys() - reached
    # A self-test comes after a check and a download: there is time to plant this.
    broken = {*sorted(reached)[::EVERY], *sorted(untouched)[::EVERY]}
    for name in broken:
        (swarm.homes[name].folder / "runtime-is-broken").touch()
    held = await_value(
        lambda: show(swarm, rollout),
        lambda found: found["state"] in {"held", "halted"},
        PATIENCE_SECONDS,
    )

    failed = {
        name for name, one in held["devices"].items() if one["outcome"] == "failed"
    }
    assert len(reached) == CANARIES
    assert failed
    assert failed <= broken & reached
    assert [one["state"] for one in held["phases"]][1:] == ["pending"]
    now = serving(swarm)
    assert {now[name] for name in untouched | failed} == {old}
    assert set(now.values()) <= {old, new}

    ask_fleet("rollout", "roll-back", rollout, state=swarm.site.state)
    await_value(lambda: set(serving(swarm).values()), lambda s: s == {old}, 300.0)
    errors = Counter(home.read_status()["failed"] for home in swarm.homes.values())
    assert errors == {0: DEVICES}
