# SPDX-License-Identifier: Apache-2.0
"""The server as real processes: kill it, and nothing committed is lost."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from edge_contract.canonical import encode_cbor
from edge_contract.enrolment import Enrolment
from edge_contract.messages import Command, Want
from edge_contract.profile import ReferenceProfile
from fleet.config import StateLayout
from fleet.store.engine import database_url, open_engine, writing
from fleet.store.profiles import insert_profile
from tests.support.fleet_process import (
    MqttDevice,
    ServerProcess,
    ask_fleet,
    run_fleet,
)

CONFIG = """\
ingest: {ack_interval: 100ms}
pipelines:
  copy:
    command: [sh, -c, "cp samples/watch-1.npz model.npz; echo {} > evaluation.json"]
  endless: {command: [sleep, "1000"], timeout: 200ms}
"""


@dataclass
class Site:
    """A state folder with two enrolled devices."""

    state: Path
    server: ServerProcess
    enrolments: list[Enrolment]


def add_profile(state: Path, profile: ReferenceProfile) -> None:
    engine = open_engine(database_url(StateLayout(state).database))
    with writing(engine) as connection:
        insert_profile(connection, profile, digest="00" * 32, now_us=1)
    engine.dispose()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    assert run_fleet("init", state=folder).returncode == 0
    (folder / "fleet.yaml").write_text(CONFIG)
    root = folder / "tuf" / "metadata" / "1.root.json"
    if not root.exists():
        root.parent.mkdir(parents=True)
        root.write_bytes(b"{}")
    return folder


@pytest.fixture
def site(state: Path, tmp_path: Path) -> Iterator[Site]:
    with ServerProcess(state) as server:
        output = str(tmp_path / "enrol")
        added = ask_fleet(
            "device", "add", "watch-1", "watch-2", "-o", output, state=state
        )
        files = [Path(added["devices"][name]) for name in ("watch-1", "watch-2")]
        assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
        enrolments = [Enrolment.from_json(path.read_bytes()) for path in files]
        yield Site(state, server, enrolments)


@pytest.fixture
def device(site: Site) -> Iterator[MqttDevice]:
    device = MqttDevice(site.enrolments[0])
    add_profile(site.state, device.sealing.profile)
    device.connect()
    yield device
    device.close()


def test_what_was_acknowledged_survives_a_kill_and_counts_once(
    site: Site, device: MqttDevice
) -> None:
    windows = [device.sealing.window(seq) for seq in range(2, 42)]
    device.send(device.sealing.birth(seq=1, lowest_seq=1), *windows[:30])
    device.wait_until_marked(31)
    device.close()

    site.server.kill()
    with ServerProcess(site.state) as server:
        again = MqttDevice(site.enrolments[0])
        again.connect()
        # Everything is sent again, as by a device that got no ack.
        again.send(*windows)
        again.wait_until_marked(41)
        again.close()
        totals = ask_fleet("device", "show", "watch-1", state=site.state)["totals"]
        assert server.addresses["broker"] == site.server.addresses["broker"]
        assert server.stop() == 0

    assert totals["windows"] == 40
    assert totals["inferences"] == 40 * 64
    assert totals["duplicates"] == 30


def test_a_birth_is_answered_with_want_and_open_commands(
    site: Site, device: MqttDevice
) -> None:
    asked = ask_fleet(
        "sample", "request", "watch-1", "--fraction", "0.3", state=site.state
    )
    first = device.wait_for(Command)
    device.send(device.sealing.birth(seq=1, lowest_seq=1, down_floor=100))
    want = device.wait_for(Want)
    second = device.wait_for(Command)

    assert first.kind == "sample"
    assert first.arguments["request"] == asked["request"]
    assert (second.id, second.arguments) == (first.id, first.arguments)
    assert want.down_seq > 100
    assert second.down_seq > want.down_seq

    device.send(device.sealing.reply(2, first.id))
    device.wait_until_marked(2)
    shown = ask_fleet("device", "show", "watch-1", state=site.state)
    assert shown["commands"][0]["reply"]["accepted"] is True


def put(site: Site, path: str, body: bytes) -> httpx.Response:
    url = site.server.addresses["url"]
    return httpx.put(url + path, content=body, trust_env=False)


def test_samples_arrive_sealed_and_feed_a_pipeline(
    site: Site, device: MqttDevice, tmp_path: Path
) -> None:
    asked = ask_fleet("sample", "request", "watch-1", state=site.state)["request"]
    rows = np.arange(12, dtype="<f4").reshape(6, 2)
    body = {
        1: [6, 2],
        2: "<f4",
        3: rows.tobytes(),
        4: [["left", 4], ["right", 2]],
        5: np.arange(6, dtype="<i4").tobytes(),
        6: ["ax", "ay"],
        7: 1,
    }
    path = f"/api/v1/devices/watch-1/samples/{asked}/0"
    sealed = device.sealing.seal_for(path, encode_cbor(body))

    moved = put(site, path.replace("watch-1", "watch-2"), sealed)
    assert (moved.status_code, moved.json()["error"]["code"]) == (
        404,
        "fleet.not_found",
    )
    renumbered = put(site, path[:-1] + "1", sealed)
    assert renumbered.status_code == 403
    assert put(site, path, sealed).json() == {"stored": True}
    assert put(site, path, sealed).json() == {"stored": False}
    other = device.sealing.seal_for(path, encode_cbor(body | {6: []}))
    assert put(site, path, other).status_code == 409
    assert put(site, path, bytes((1 << 20) + 1)).status_code == 413

    requests = ask_fleet("sample", "list", state=site.state)["requests"]
    listed = requests[0]["devices"][0]
    assert (listed["state"], listed["rows"]) == ("complete", 6)
    output = str(tmp_path / "out")
    files = ask_fleet("sample", "export", asked, "-o", output, state=site.state)[
        "files"
    ]
    with np.load(files["watch-1"], allow_pickle=False) as exported:
        assert (exported["x"] == rows).all()
        assert exported["y"].tolist() == [0, 1, 2, 3, 4, 5]
        assert exported["recording"].tolist() == ["left"] * 4 + ["right"] * 2

    run = ask_fleet("pipeline", "run", "copy", "--samples", asked, state=site.state)
    assert (run["state"], run["evaluation"]) == ("done", {})
    assert Path(run["models"][0]).read_bytes() == Path(files["watch-1"]).read_bytes()


def test_a_pipeline_that_takes_too_long_is_ended(site: Site) -> None:
    done = run_fleet("pipeline", "run", "endless", state=site.state)

    assert done.returncode == 1
    assert "took longer than 0.2 s" in done.stdout


def test_the_door_is_closed_without_a_token(site: Site) -> None:
    url = site.server.addresses["url"]
    with httpx.Client(base_url=url, trust_env=False) as client:
        for path in ("/", "/api/v1/devices", "/api/v1/openapi.json", "/nowhere"):
            assert client.get(path).status_code == 401
        token = site.server.addresses["dashboard_url"].partition("token=")[2]
        redirect = client.get("/api/v1/devices", params={"token": token, "fleet": "x"})
        assert redirect.status_code == 303
        assert redirect.headers["location"] == "/api/v1/devices?fleet=x"
        assert client.get("/api/v1/devices").status_code == 200  # by the cookie
        body = {"ids": ["other"], "fleet": "default"}
        assert client.post("/api/v1/devices", json=body).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        answer = client.post("/api/v1/devices", json=body, headers=bearer)
        assert answer.status_code == 200


def test_a_second_server_on_the_folder_is_refused(site: Site) -> None:
    done = run_fleet("serve", state=site.state)

    assert done.returncode == 1
    assert "another edge-fleet uses this state folder" in done.stderr


def test_a_port_in_use_is_named(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_fleet("serve", "--port", str(port), state=state)

    assert done.returncode == 1
    assert f"127.0.0.1:{port}: cannot listen" in done.stderr
    assert "[fleet.listen]" in done.stderr


def test_verbs_without_a_server_say_what_to_do(state: Path) -> None:
    done = run_fleet("device", "list", state=state)

    assert done.returncode == 1
    assert "run `edge-fleet serve --state" in done.stderr


def test_an_export_of_nothing_is_refused(site: Site, tmp_path: Path) -> None:
    asked = ask_fleet("sample", "request", "watch-2", state=site.state)["request"]
    output = tmp_path / "none"
    done = run_fleet("sample", "export", asked, "-o", str(output), state=site.state)

    assert done.returncode == 1
    assert "no chunk came" in done.stderr
    assert not output.exists()
