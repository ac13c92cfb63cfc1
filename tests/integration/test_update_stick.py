# SPDX-License-Identifier: Apache-2.0
"""A repository on a stick: believed as the server is, and without a network."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.errors import UpdateTrustError
from edge_agent.ota.deferral import Terms
from edge_agent.ota.folder import FolderAccess, is_repository
from edge_agent.ota.machine import UpdateRecord, UpdateState
from edge_agent.ota.resolve import UpdateRejectedError
from edge_agent.ota.slots import Slots
from edge_agent.ota.trusted import ExpiredError
from edge_agent.ota.update import run_update
from edge_contract.errors import EdgeError
from tests.support.tuf_repository import TufRepository, rule
from tests.support.update_world import TARGET, World, commit, open_world, want

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as one:
        one.enrolment = replace(one.enrolment, api_url=NOWHERE)
        yield one


def export(world: World, name: str = "stick") -> Path:
    stick = world.scratch / name
    shutil.copytree(world.repository.folder, stick)
    assert is_repository(stick)
    return stick


def bring(world: World, stick: Path, **changes: object) -> UpdateRecord:
    settings = replace(world.settings, is_now=True, **changes)  # type: ignore[arg-type]
    return run_update(settings, world.enrolment, FolderAccess(stick))


def the_bundle(stick: Path) -> Path:
    (found,) = (stick / "targets" / "models").iterdir()
    return found


def test_a_release_comes_without_a_network(world: World) -> None:
    digest = world.release(1)
    record = bring(world, export(world))
    assert record.is_ready
    assert record.digest == digest
    assert not world.server.requests
    commit(world)
    assert Slots(world.slot_dir).active == digest
    world.enrolment = replace(world.enrolment, api_url=world.server.url)
    assert world.update().state is UpdateState.COMMITTED


def test_a_person_waits_for_no_window(world: World) -> None:
    world.release(1)
    want(world, 1, 2, windows=[{"days": [0], "start": "00:00", "end": "00:01"}])
    terms = Terms(metered="defer", is_metered=lambda: True, daily_bytes=1)
    assert bring(world, export(world), terms=terms).is_ready


def cut_short(stick: Path, _: World) -> None:
    os.truncate(the_bundle(stick), 900)


def flip(stick: Path, _: World) -> None:
    data = bytearray(the_bundle(stick).read_bytes())
    data[-1] ^= 1
    the_bundle(stick).write_bytes(data)


def link_out(stick: Path, world: World) -> None:
    whole = world.scratch / "elsewhere"
    the_bundle(stick).rename(whole)
    (stick / "targets" / "models" / f"{whole.name}").symlink_to(whole)


def take_out(stick: Path, _: World) -> None:
    the_bundle(stick).unlink()


def make_pipe(stick: Path, _: World) -> None:
    path = the_bundle(stick)
    path.unlink()
    os.mkfifo(path)


def forge_desired(stick: Path, _: World) -> None:
    (path,) = (stick / "targets" / "fleets" / "default").iterdir()
    path.write_bytes(path.read_bytes().replace(b'"percent":null', b'"percent":1000'))


def forge_timestamp(stick: Path, _: World) -> None:
    path = stick / "metadata" / "timestamp.json"
    wire = json.loads(path.read_bytes())
    wire["signed"]["version"] += 1
    path.write_text(json.dumps(wire))


def drop_snapshot(stick: Path, _: World) -> None:
    for path in (stick / "metadata").glob("*.snapshot.json"):
        path.unlink()


def take_another(stick: Path, world: World) -> None:
    shutil.rmtree(stick)
    other = TufRepository(world.scratch / "other")
    other.publish()
    shutil.copytree(other.folder, stick)


@pytest.mark.parametrize(
    "harm",
    [
        cut_short,
        flip,
        link_out,
        take_out,
        make_pipe,
        forge_desired,
        forge_timestamp,
        drop_snapshot,
        take_another,
    ],
)
def test_what_http_would_refuse_is_refused(
    world: World, harm: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.ota.fetch.MAX_ATTEMPTS", 1)
    world.release(1)
    whole, stick = export(world), export(world, "harmed")
    assert callable(harm)
    harm(stick, world)
    with pytest.raises(EdgeError):
        bring(world, stick)
    assert world.nothing_installed()
    assert bring(world, whole).is_ready


def test_an_old_stick_is_refused(world: World) -> None:
    world.release(1)
    old = export(world, "old")
    world.release(2)
    assert bring(world, export(world)).release_counter == 2
    with pytest.raises(UpdateTrustError, match="version"):
        bring(world, old)
    assert world.journal.record.release_counter == 2
    assert "agent.update.trust" in world.journal.problem


def test_a_stick_for_others_changes_nothing(world: World) -> None:
    digest = world.release(1)
    world.repository.set_desired(2, rule(TARGET, digest, 1, devices=["other"]))
    world.repository.publish()
    assert bring(world, export(world)).state is UpdateState.IDLE


def test_a_stick_for_other_hardware_is_refused(world: World) -> None:
    digest = world.release(1)
    path = world.scratch / "1.bundle"
    world.repository.add_bundle(
        TARGET, path, digest=digest, counter=1, hardware=["rpi4"]
    )
    world.repository.publish()
    with pytest.raises(UpdateRejectedError, match="rpi4"):
        bring(world, export(world))


def test_a_stick_that_lay_about_for_too_long_is_refused(world: World) -> None:
    world.repository.expires = datetime.now(UTC) - timedelta(hours=1)
    world.release(1)
    with pytest.raises(ExpiredError):
        bring(world, export(world))


def test_a_stick_that_was_pulled_out_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.ota.fetch.MAX_ATTEMPTS", 1)
    world.release(1)
    stick = export(world)
    whole = the_bundle(stick).read_bytes()
    os.truncate(the_bundle(stick), 900)
    with pytest.raises(EdgeError, match="found 900"):
        bring(world, stick)
    the_bundle(stick).write_bytes(whole)
    record = bring(world, stick)
    assert record.is_ready
    assert record.downloaded_bytes == len(whole) - 900


@pytest.mark.parametrize(
    "name", ["../../secret", "%2e%2e/%2e%2e/secret", "/etc/passwd", "targets", "\0"]
)
def test_names_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "stick" / "targets").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    access = FolderAccess(tmp_path / "stick")
    assert access.request("GET", f"{access.base}/tuf/{name}").status == 404


def test_the_verb_brings_it(world: World) -> None:
    digest = world.release(1)
    config = world.scratch / "agent.yaml"
    config.write_text(f"state_dir: {world.state_dir}\nmodels: {{main: {{}}}}\n")
    enrolment = world.scratch / "watch-1.json"
    enrolment.write_bytes(world.enrolment.to_json())

    def run(*words: str) -> bytes:
        command = [sys.executable, "-m", "edge_agent.cli", *words, f"--config={config}"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    run("enrol", str(enrolment))
    record = json.loads(run("bundle", "import", str(export(world)), "--json"))
    assert (record["state"], record["tested"], record["digest"]) == (
        "SELFTEST",
        True,
        digest,
    )
