# SPDX-License-Identifier: Apache-2.0
"""A server process killed while it publishes, again and again.

After each kill a TUF client must read a whole repository, old or new, and the restarted
server's catalogue must be what the repository lists.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_contract.bundle import write_bundle
from fleet.client import FleetClient, open_client, read_address
from fleet.errors import ClientError, RemoteError
from fleet.registry.builder import Builder
from fleet.registry.key_reference import read_signer
from fleet.registry.site import system_now
from tests.support.contract_samples import make_release
from tests.support.tuf_reader import TufReader

KILLS = 4


@contextmanager
def run_server(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a real server; it has said that it answers when the block begins."""
    command = [sys.executable, "-m", "fleet.cli", "serve", "--state", str(state)]
    process = subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "url" in json.loads(process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def connect(state: Path) -> Iterator[FleetClient]:
    with open_client(read_address(state / "run.json")) as client:
        yield client


class Publisher(threading.Thread):
    """Publishes bundle after bundle until the server is gone."""

    def __init__(self, state: Path, first: int) -> None:
        super().__init__()
        self.published: dict[int, bytes] = {}
        self.has_begun = threading.Event()
        self._state = state
        self._first = first

    def run(self) -> None:
        signer = read_signer(self._state / "keys" / "offline" / "models.pem")
        key = (self._state / "keys" / "offline" / "models.pem").read_bytes()
        with connect(self._state) as client:
            builder = Builder(client, [signer], system_now)
            for number in range(self._first, self._first + 1000):
                path = self._state / "next.bundle"
                manifest, contents = make_release(b"model %d" % number)
                write_bundle(path, manifest, contents, sign_key=key)
                try:
                    one = builder.publish_bundle(path).release
                except (ClientError, RemoteError):
                    return
                self.published[one.release_counter] = path.read_bytes()
                if len(self.published) == 2:
                    self.has_begun.set()


@pytest.mark.slow
def test_a_killed_server_leaves_a_whole_repository(tmp_path: Path) -> None:
    state = tmp_path / "state"
    init = [sys.executable, "-m", "fleet.cli", "init", "--state", str(state), "--json"]
    document: dict[str, Any] = json.loads(subprocess.check_output(init))
    assert Path(document["builder_key"]).exists()
    root = (state / "tuf" / "metadata" / "1.root.json").read_bytes()
    reader = TufReader(state / "tuf", tmp_path / "device", root)
    published: dict[int, bytes] = {}
    for kill in range(KILLS):
        with run_server(state) as process:
            publisher = Publisher(state, first=1000 * kill)
            publisher.start()
            assert publisher.has_begun.wait(timeout=60)
            process.kill()
            publisher.join()
        published |= publisher.published

        for counter, content in published.items():
            assert reader.read(f"models/sample-{counter}.bundle") == content

    with run_server(state), connect(state) as client:
        listed = {one["release"] for one in client.get("/models")["models"]}

    # The one that was in flight when the server died may have been published.
    assert published.keys() <= listed
    assert len(listed) <= len(published) + KILLS
    assert listed == set(range(1, len(listed) + 1))
    for counter in listed:
        assert reader.read(f"models/sample-{counter}.bundle") is not None
