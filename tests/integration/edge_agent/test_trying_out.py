# SPDX-License-Identifier: Apache-2.0
"""A release is tried out by the real agent: in the shadow, on trial, and taken back."""

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_contract.messages import UpdateReport, decode_up
from tests.support.agent_home import AgentHome, await_value
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.faulty_server import serve_files
from tests.support.tuf_repository import TufRepository, rule
from tests.support.victim import Victim

FIRST = (9.0, 0.0, 0.0)
OTHER = (0.0, 0.0, 9.0)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Victim]:
    """A running agent that serves the first release of its fleet."""
    (tmp_path / "device").mkdir()
    repository = TufRepository(tmp_path / "served")
    with serve_files(tmp_path / "served") as server:
        home = AgentHome(tmp_path / "device", rate=200)
        victim = Victim(home, repository, server, tmp_path)
        victim.enrol()
        home.record()
        want(victim, 1, FIRST)
        victim.install()
        home.start()
        home.await_produced(50)
        yield victim
        home.close()


def want(victim: Victim, number: int, bias: tuple[float, ...], **policy: object) -> str:
    path = victim.scratch / f"{number}.bundle"
    recipe = ModelRecipe(seed=number, bias=bias)
    digest = make_bundle(path, recipe, sign_key=victim.repository.builder_key)
    target = f"models/toy-{number}.bundle"
    victim.repository.add_bundle(target, path, digest=digest, counter=number)
    wanted = rule(target, digest, number, policy=policy)
    victim.repository.set_desired(number, wanted)
    victim.repository.publish()
    return digest


def look(victim: Victim) -> None:
    """Look for updates, as a person at the device would."""
    home = victim.home
    command = [*home.command, "update", "--now", f"--config={home.config}"]
    subprocess.run(command, check=True, capture_output=True)


def reports(victim: Victim, digest: str) -> list[UpdateReport]:
    with sqlite3.connect(victim.home.state_dir / "outbox.sqlite") as database:
        rows = database.execute(
            "SELECT body FROM rows WHERE kind = 'update' ORDER BY seq"
        ).fetchall()
    database.close()
    found = [decode_up("update", body) for (body,) in rows]
    return [
        one
        for one in found
        if isinstance(one, UpdateReport) and one.digest.hex() == digest
    ]


def await_end(victim: Victim, digest: str) -> list[UpdateReport]:
    ends = {"COMMITTED", "ROLLED_BACK", "FAILED"}
    found: list[UpdateReport] = await_value(
        lambda: reports(victim, digest),
        lambda told: bool(told) and told[-1].state in ends,
        120.0,
    )
    return found


def test_shadow_then_trial_then_commit(device: Victim) -> None:
    digest = want(device, 2, FIRST, shadow={"inferences": 40}, trial={"inferences": 40})
    look(device)
    told = await_end(device, digest)

    states = [one.state for one in told]
    order = ["SELFTEST", "SHADOW", "TRIAL", "COMMITTED"]
    assert [one for one in dict.fromkeys(states) if one in order] == order
    figures = told[-1].fields
    assert isinstance(figures["compared"], int)
    assert figures["compared"] >= 30
    assert {"p95_us", "p95_us_before", "confidence_ppm", "rss_kib"} <= figures.keys()
    device.home.stop()
    assert device.slots.active == digest
    windows = device.home.read_windows()
    shadows = [one.shadow for one in windows if one.shadow is not None]
    assert shadows
    assert {one.release.hex() for one in shadows} == {digest[:16]}
    # What was compared in the window that the swap closed is in the report alone.
    assert sum(one.compared for one in shadows) > 0
    status = device.home.read_status()
    assert status["failed"] == 0


@pytest.mark.parametrize("in_shadow", [True, False])
def test_other_answers_than_the_model_before(
    device: Victim, *, in_shadow: bool
) -> None:
    before = device.slots.active
    policy: dict[str, object] = {"trial": {"max_disagreement_percent": 20}}
    if in_shadow:
        policy["shadow"] = {"inferences": 10**6}
    digest = want(device, 2, OTHER, **policy)
    look(device)
    told = await_end(device, digest)

    end = told[-1]
    assert end.state == ("FAILED" if in_shadow else "ROLLED_BACK")
    assert end.reason == f"agent.update.{'shadow' if in_shadow else 'trial'}"
    assert end.fields["invariant"] == "disagreement"
    assert end.serving.hex() == before
    produced = device.home.read_counter()
    device.home.await_produced(produced + 100)  # the old one goes on serving
    device.home.stop()
    answered = {one["digest"] for one in device.home.read_results()}
    assert (digest in answered) == (not in_shadow)
    assert device.slots.active == before
