# SPDX-License-Identifier: Apache-2.0
"""Exports for a stick: what a device reads from one, pulled out at any moment."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_contract.canonical import encode_json
from fleet.errors import NotFoundError
from fleet.registry import export
from fleet.registry.errors import ExportError
from fleet.registry.export import (
    MARKER,
    Exported,
    Receiver,
    export_repository,
    find_receiver,
)
from tests.support.served_registry import Served
from tests.support.tuf_reader import TufReader

DESIRED = "fleets/default/desired.json"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick" / "edgeloop"


def want(served: Served, *rules: dict[str, Any]) -> None:
    full = [{"devices": None, "percent": None, "salt": "s", **one} for one in rules]
    content = encode_json({"desired_version": 1, "slots": {"main": full}})
    served.registry.publish_desired("default", content)


def publish(served: Served, *models: bytes) -> list[Path]:
    paths = [served.world.bundle(one) for one in models]
    for path in paths:
        served.builder.publish_bundle(path)
    return paths


def read(served: Served, stick: Path, name: str, path: str) -> bytes | None:
    root = served.world.paths.root.read_bytes()
    return TufReader(stick, served.world.state / name, root).read(path)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file()
    }


def run(served: Served, stick: Path, receiver: Receiver | None = None) -> Exported:
    return export_repository(served.client, stick, receiver or Receiver("default"))


def test_a_tuf_client_reads_the_release_from_the_stick(
    served: Served, stick: Path
) -> None:
    (first, second) = publish(served, b"model one", b"model two")
    want(served, {"target": "models/sample-2.bundle"})

    done = run(served, stick)

    assert done.targets == ("models/sample-2.bundle",)
    contents = files_of(stick)
    marker = contents.pop(MARKER)
    assert done.files == len(contents)
    assert done.bytes == done.written_bytes == sum(map(len, contents.values()))
    assert read(served, stick, "a", "models/sample-2.bundle") == second.read_bytes()
    assert first.read_bytes() not in contents.values()
    assert json.loads(marker)["files"] == sorted(contents)


def test_a_second_export_writes_what_is_new_and_removes_what_is_old(
    served: Served, stick: Path
) -> None:
    (_, second) = publish(served, b"model one", b"model two")
    want(served, {"target": "models/sample-1.bundle"})
    run(served, stick)
    assert run(served, stick).written_bytes == 0

    want(served, {"target": "models/sample-2.bundle"})
    done = run(served, stick)

    assert read(served, stick, "a", "models/sample-2.bundle") == second.read_bytes()
    contents = files_of(stick)
    assert done.files == len(contents) - 1
    assert len([one for one in contents if one.startswith("targets/models/")]) == 1


def test_a_device_gets_what_it_alone_may_follow(served: Served, stick: Path) -> None:
    publish(served, b"one", b"two", b"three")
    want(
        served,
        {"target": "models/sample-3.bundle", "devices": ["watch-2"]},
        {"target": "models/sample-2.bundle", "where": "site=north"},
        {"target": "models/sample-3.bundle", "where": "site=south or hw=pi3"},
        {"target": "models/sample-3.bundle", "except": ["watch-1", "watch-2"]},
        {"target": "models/sample-1.bundle"},
    )

    north = Receiver("default", "watch-1", {"site": "north"})
    assert run(served, stick, north).targets == (
        "models/sample-2.bundle",
        "models/sample-1.bundle",
    )
    other = Receiver("default", "watch-2")
    assert run(served, stick, other).targets == (
        "models/sample-3.bundle",
        "models/sample-1.bundle",
    )
    assert len(run(served, stick).targets) == 3


def test_a_withdrawn_release_is_left_out_and_said(served: Served, stick: Path) -> None:
    publish(served, b"one")
    want(served, {"target": "models/sample-1.bundle"})
    served.builder.withdraw("sample", 1)

    done = run(served, stick)

    assert (done.targets, done.withdrawn) == ((), ("models/sample-1.bundle",))


@pytest.mark.parametrize("fleet", ["default", "nowhere"])
def test_a_fleet_without_a_document_is_refused(
    served: Served, stick: Path, fleet: str
) -> None:
    with pytest.raises(NotFoundError, match=f"fleet {fleet}: expected a document"):
        run(served, stick, Receiver(fleet))
    assert not stick.exists()


def test_a_folder_with_other_things_is_left_alone(served: Served, stick: Path) -> None:
    publish(served, b"one")
    want(served, {"target": "models/sample-1.bundle"})
    stick.mkdir(parents=True)
    (stick / "holiday.jpg").write_bytes(b"sea")

    with pytest.raises(ExportError, match=r"found holiday\.jpg"):
        run(served, stick)
    assert files_of(stick) == {"holiday.jpg": b"sea"}

    (stick / "holiday.jpg").unlink()
    run(served, stick)
    (stick / "targets" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"targets/notes\.txt"):
        run(served, stick)


def test_a_folder_of_another_format_is_left_alone(served: Served, stick: Path) -> None:
    stick.mkdir(parents=True)
    for content in (b'{"format": 2, "files": []}', b"not json", b"[]"):
        (stick / MARKER).write_bytes(content)
        with pytest.raises(ExportError, match="export into a new folder"):
            run(served, stick)


class PulledError(Exception):
    """The stick was pulled out."""


@dataclass
class Stick:
    """Lets so many writes through, then cuts one in the middle."""

    writes: int

    def __call__(self, path: Path, data: bytes) -> None:
        if self.writes == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / ".writing-cut").write_bytes(data[: len(data) // 2])
            raise PulledError
        self.writes -= 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def chunks(self, path: Path, chunks: Iterator[bytes]) -> None:
        self(path, b"".join(chunks))


def test_a_stick_pulled_at_any_write_holds_the_old_or_the_new_export(
    served: Served, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, second) = publish(served, b"model one", b"model two")
    want(served, {"target": "models/sample-1.bundle"})
    run(served, stick)
    old = read(served, stick, "old", DESIRED)
    want(served, {"target": "models/sample-2.bundle"})
    cuts = 0
    for writes in range(50):
        with monkeypatch.context() as patch:
            pulled = Stick(writes)
            patch.setattr(export, "save_bytes", pulled)
            patch.setattr(export, "save_chunks", pulled.chunks)
            try:
                run(served, stick)
            except PulledError:
                cuts += 1
            else:
                break
        found = read(served, stick, f"cut-{writes}", DESIRED)
        is_old = found == old
        path, bundle = (
            ("models/sample-1.bundle", first)
            if is_old
            else ("models/sample-2.bundle", second)
        )
        assert read(served, stick, f"cut-{writes}", path) == bundle.read_bytes()
    assert cuts >= 3
    run(served, stick)
    assert read(served, stick, "new", "models/sample-2.bundle") == second.read_bytes()
    assert not list(stick.rglob(".writing-*"))


def test_a_damaged_copy_is_written_again(served: Served, stick: Path) -> None:
    (bundle,) = publish(served, b"model one")
    want(served, {"target": "models/sample-1.bundle"})
    run(served, stick)
    (copy,) = (stick / "targets" / "models").iterdir()
    copy.write_bytes(bundle.read_bytes()[:-1])

    assert run(served, stick).written_bytes == len(bundle.read_bytes())
    assert read(served, stick, "a", "models/sample-1.bundle") == bundle.read_bytes()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("metadata/*.snapshot.json", "snapshot"), ("targets/models/*", "targets/models")],
)
def test_what_the_server_damaged_is_not_carried(
    served: Served, stick: Path, pattern: str, found: str
) -> None:
    publish(served, b"model one")
    want(served, {"target": "models/sample-1.bundle"})
    for path in (served.world.state / "tuf").glob(pattern):
        path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(ExportError, match=found):
        run(served, stick)
    assert not (stick / "metadata" / "timestamp.json").exists()


def test_the_receiver_is_what_the_server_knows_of_a_device() -> None:
    class Asked:
        def get(self, path: str) -> Any:
            assert path == "/devices/watch-3"
            return {"fleet": "south", "tags": {"site": "north"}}

        def stream_file(self, path: str) -> Iterator[bytes]:
            raise AssertionError(path)

    assert find_receiver(Asked(), None, "watch-3") == Receiver(
        "south", "watch-3", {"site": "north"}
    )
    assert find_receiver(Asked(), None, None) == Receiver("default")
