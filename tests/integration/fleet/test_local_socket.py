# SPDX-License-Identifier: Apache-2.0
"""The server's Unix socket: who asks is known by name, and nobody can claim another."""

import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.client import ServerAddress, open_client
from fleet.errors import ClientError
from tests.support.fleet_process import ServerProcess, ask_fleet, run_fleet

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is two users")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, as /run is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / ("longer-than-a-socket's-address-" * 3) / "state"
    assert len(str(folder)) > 108
    run_fleet("init", state=folder)
    return folder


def read_audit(state: Path) -> list[tuple[str, str]]:
    entries = ask_fleet("audit", "list", state=state)["entries"]
    return [(one["actor"], one["action"]) for one in entries]


def add_device(state: Path, name: str, folder: Path, *how: str) -> None:
    done = run_fleet("device", "add", name, "-o", str(folder / name), *how, state=state)
    assert done.returncode == 0, done.stderr


def test_the_command_line_uses_it_and_is_known_by_name(
    state: Path, tmp_path: Path
) -> None:
    with ServerProcess(state):
        run = json.loads((state / "run.json").read_text())
        mode = stat.S_IMODE(Path(run["socket"]).stat().st_mode)
        add_device(state, "watch-1", tmp_path)
        token = ServerAddress(run["url"], run["token"])
        with open_client(token) as client:
            client.post("/devices", {"ids": ["watch-2"], "fleet": "default"})
        # A header claims nothing, on either way in.
        for forged in ("X-Forwarded-For", "X-Edge-Actor"):
            headers = {forged: "user:ada"}
            answer = httpx.get(run["url"] + "/api/v1/devices", headers=headers)
            assert answer.status_code == 401

        found = read_audit(state)

    me = "user:root" if os.geteuid() == 0 else found[1][0]
    assert mode == 0o600
    assert found[:2] == [("admin", "device.add"), (me, "device.add")]
    assert not Path(run["socket"]).exists()


def _ask_raw(path: str, request: bytes, user: int | None) -> bytes:
    """Send a request as another user; only the kernel knows who that is."""
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        try:
            connection.connect(path)
        except PermissionError:
            return b"refused"
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def ask_as(user: int, path: Path, method: str, where: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    request = (
        f"{method} /api/v1{where} HTTP/1.1\r\nHost: edge-fleet\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + data
    with get_context("fork").Pool(1) as pool:
        return pool.apply(_ask_raw, (str(path), request, user))


@needs_root
def test_a_group_may_use_it_and_each_member_has_a_name(
    state: Path, open_folder: Path, tmp_path: Path
) -> None:
    path = open_folder / "fleet.sock"
    body = {"ids": ["watch-9"], "fleet": "default"}
    (state / "fleet.yaml").write_text(f"listen: {{socket: {path}, group: nogroup}}\n")
    with ServerProcess(state):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        answer = ask_as(NOBODY, path, "POST", "/devices", body)
        stranger = ask_as(1, path, "POST", "/devices", body)
        # The way of a person: no state folder, no token.
        add_device(state, "watch-1", tmp_path, "--socket", str(path))
        found = read_audit(state)

    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert stranger == b"refused"
    assert found[:2] == [("user:root", "device.add"), ("user:nobody", "device.add")]


def test_what_a_killed_server_left_is_taken_over(state: Path, tmp_path: Path) -> None:
    server = ServerProcess(state)
    server.kill()
    with ServerProcess(state):
        add_device(state, "watch-1", tmp_path)


def test_a_socket_that_is_in_use_or_nowhere_is_named(
    state: Path, open_folder: Path
) -> None:
    path = open_folder / "fleet.sock"
    (state / "fleet.yaml").write_text(f"listen: {{socket: {path}}}\n")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        done = run_fleet("serve", state=state)

    assert done.returncode == 1
    assert "another server listens there" in done.stderr
    with (
        pytest.raises(ClientError, match="expected a server's socket"),
        open_client(ServerAddress("http://x", "", open_folder / "no" / "where")),
    ):
        pass
