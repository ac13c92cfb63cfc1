# SPDX-License-Identifier: Apache-2.0
"""The command line for TUF's conformance suite, against a real repository over HTTP."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_server import FaultyServer, serve_files
from tests.support.tuf_repository import TufRepository

CLIENT = Path(__file__).resolve().parents[2] / "scripts" / "tuf-conformance-client"


class Client:
    """One client's folders, and its commands."""

    def __init__(self, folder: Path, url: str) -> None:
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.url = f"{url}/tuf"

    def run(self, *words: str) -> int:
        done = subprocess.run(
            [sys.executable, str(CLIENT), "--metadata-dir", str(self.metadata), *words],
            check=False,
            capture_output=True,
        )
        assert b"Traceback" not in done.stderr
        return done.returncode

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.url}/metadata", "refresh")

    def download(self, *names: str) -> int:
        where = ["--target-base-url", f"{self.url}/targets"]
        named = [word for name in names for word in ("--target-name", name)]
        told = [*where, "--target-dir", str(self.targets), *named]
        return self.run("--metadata-url", f"{self.url}/metadata", *told, "download")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[TufRepository, FaultyServer]]:
    folder = tmp_path / "served"
    repository = TufRepository(folder)
    with serve_files(folder) as server:
        yield repository, server


@pytest.mark.slow
def test_the_commands_of_the_suite(
    served: tuple[TufRepository, FaultyServer], tmp_path: Path
) -> None:
    repository, server = served
    client = Client(tmp_path, server.url)
    root = tmp_path / "root.json"
    root.write_bytes(repository.root)
    bundle = tmp_path / "a.bundle"
    bundle.write_bytes(b"a" * 1000)
    repository.add_bundle("models/a.bundle", bundle, digest="00" * 32, counter=1)
    repository.publish()

    assert client.run("init", str(root)) == 0
    assert server.requests == []
    assert client.refresh() == 0
    assert client.download("models/a.bundle") == 0
    assert [one.read_bytes() for one in client.targets.iterdir() if one.is_file()] == [
        bundle.read_bytes()
    ]
    fetched = len(server.requests)
    assert client.download("models/a.bundle") == 0
    assert len(server.requests) == fetched
    assert client.download("models/a.bundle", "models/none.bundle") == 1

    (repository.folder / "metadata" / "timestamp.json").write_bytes(b"{}")
    assert client.refresh() == 1
