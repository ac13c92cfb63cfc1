# SPDX-License-Identifier: Apache-2.0
"""Copying what a device needs to a folder, for where no network goes.

Owns ``export_repository``, which ``edge-fleet export`` calls: which files of the
repository a fleet or a device may need, and an order of writes that leaves the folder
as it was, or whole, whenever the stick is pulled. Digests are compared here so that no
damaged copy is carried anywhere; signatures are verified by the device.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets

from edge_contract.selection import parse_query
from fleet.errors import NotFoundError, RemoteError
from fleet.registry import metadata
from fleet.registry.errors import ExportError
from fleet.registry.files import remove_temporary, save_bytes, save_chunks
from fleet.registry.keyring import fleet_role

MARKER = "edgeloop-export.json"
_FORMAT = 1
_TIMESTAMP = "metadata/timestamp.json"


class Source(Protocol):
    """The part of the server's client that an export needs."""

    def get(self, path: str) -> Any:
        """Return the JSON document of a GET below the API."""
        ...

    def stream_file(self, path: str) -> Iterator[bytes]:
        """Yield the body of a GET outside the API."""
        ...


@dataclass(frozen=True)
class Receiver:
    """Whom an export is for.

    Attributes:
        fleet: The fleet whose document is exported.
        device: The one device that it is for; None means all.
        tags: Of that device.
    """

    fleet: str
    device: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def may_follow(self, rule: Mapping[str, Any]) -> bool:
        """Whether the receiver, or one of its devices, may match a rule."""
        if self.device is None:
            return True
        devices, where = rule["devices"], rule.get("where")
        return (
            (devices is None or self.device in devices)
            and self.device not in rule.get("except", ())
            and (where is None or parse_query(where).matches(self.tags))
        )


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        files: How many files the folder holds.
        bytes: Their length together.
        written_bytes: How much of that this run wrote.
        targets: The releases in it.
        withdrawn: Releases that the fleet's document names and the builder took back.
    """

    files: int
    bytes: int
    written_bytes: int
    targets: tuple[str, ...]
    withdrawn: tuple[str, ...]


def find_receiver(source: Source, fleet: str | None, device: str | None) -> Receiver:
    """Return whom to export for: a device, or a fleet (``default`` unless named).

    Raises:
        RemoteError: The server knows no such device.
    """
    if device is None:
        return Receiver(fleet or "default")
    shown = source.get(f"/devices/{device}")
    return Receiver(shown["fleet"], device, shown["tags"])


def export_repository(source: Source, folder: Path, receiver: Receiver) -> Exported:
    """Bring ``folder`` to what the server publishes now.

    Files that are there already are kept; one that is missing or cut short is fetched.
    The timestamp is replaced last: until then a device sees the earlier export.

    Args:
        source: The server.
        folder: A new or empty folder, or an earlier export.
        receiver: Whom it is for.

    Raises:
        ExportError: The folder holds other things, or the server sent damaged ones.
        NotFoundError: The fleet has no document yet.
        OSError: The stick refuses.
    """
    had = _read_marker(folder)
    _refuse_strangers(folder, had)
    remove_temporary(folder)
    plan = _Plan(source)
    plan.collect(receiver)
    _write_marker(folder, receiver, {*had, *plan.contents, *plan.targets})
    written = 0
    for path, target in plan.targets.items():
        if not _is_complete(folder / path, target):
            save_chunks(folder / path, _checked(source, path, target))
            written += target.length
    last = sorted(plan.contents, key=lambda path: path == _TIMESTAMP)
    for path in last:
        if not _holds(folder / path, plan.contents[path]):
            save_bytes(folder / path, plan.contents[path])
            written += len(plan.contents[path])
    for path in had - {*plan.contents, *plan.targets}:
        (folder / path).unlink(missing_ok=True)
    _write_marker(folder, receiver, {*plan.contents, *plan.targets})
    lengths = [len(one) for one in plan.contents.values()]
    lengths += [one.length for one in plan.targets.values()]
    return Exported(
        len(lengths), sum(lengths), written, tuple(plan.releases), tuple(plan.withdrawn)
    )


class _Plan:
    """What belongs into an export: small files by content, large ones by digest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.contents: dict[str, bytes] = {}
        self.targets: dict[str, TargetFile] = {}
        self.releases: list[str] = []
        self.withdrawn: list[str] = []

    def collect(self, receiver: Receiver) -> None:
        self._collect_roots()
        data = self._add(_TIMESTAMP)
        timestamp = _parse(_TIMESTAMP, data)
        snapshot: Snapshot = self._collect("snapshot", timestamp.snapshot_meta)
        self._collect("targets", snapshot.meta["targets.json"])
        models: Targets = self._collect("models", snapshot.meta["models.json"])
        role = fleet_role(receiver.fleet)
        if f"{role}.json" not in snapshot.meta:
            raise _nothing_for(receiver.fleet)
        fleet: Targets = self._collect(role, snapshot.meta[f"{role}.json"])
        desired = fleet.targets.get(metadata.desired_path(receiver.fleet))
        if desired is None:
            raise _nothing_for(receiver.fleet)
        content = self._add(_place(desired), desired)
        for path in _named_targets(content, receiver):
            if path in models.targets:
                target = models.targets[path]
                self.targets[_place(target)] = target
                self.releases.append(path)
            else:
                self.withdrawn.append(path)

    def _collect_roots(self) -> None:
        version = 1
        while True:
            try:
                self._add(f"metadata/{version}.root.json")
            except RemoteError as error:
                if error.remote_code != NotFoundError.code or version == 1:
                    raise
                return
            version += 1

    def _collect(self, role: str, meta: MetaFile) -> Any:
        path = f"metadata/{meta.version}.{role}.json"
        return _parse(path, self._add(path, meta))

    def _add(self, path: str, expected: MetaFile | TargetFile | None = None) -> bytes:
        data = b"".join(self._source.stream_file(f"/tuf/{path}"))
        if expected is not None:
            try:
                expected.verify_length_and_hashes(data)
            except LengthOrHashMismatchError as error:
                raise _damaged(path, str(error)) from error
        self.contents[path] = data
        return data


def _parse(path: str, data: bytes) -> Any:
    try:
        document: Metadata[Any] = Metadata.from_bytes(data)
    except TufError as error:
        raise _damaged(path, str(error)) from error
    return document.signed


def _named_targets(desired: bytes, receiver: Receiver) -> Sequence[str]:
    rules = (one for rules in json.loads(desired)["slots"].values() for one in rules)
    named = (one["target"] for one in rules if receiver.may_follow(one))
    return list(dict.fromkeys(named))


def _place(target: TargetFile) -> str:
    (name,) = target.get_prefixed_paths()
    return f"targets/{name}"


def _checked(source: Source, path: str, target: TargetFile) -> Iterator[bytes]:
    digest, length = hashlib.sha256(), 0
    for chunk in source.stream_file(f"/tuf/{path}"):
        digest.update(chunk)
        length += len(chunk)
        if length > target.length:
            break
        yield chunk
    if (length, digest.hexdigest()) != (target.length, target.hashes["sha256"]):
        raise _damaged(path, f"{length} bytes of another digest")


def _is_complete(path: Path, target: TargetFile) -> bool:
    try:
        with path.open("rb") as stream:
            target.verify_length_and_hashes(stream)
    except (OSError, LengthOrHashMismatchError):
        return False
    return True


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _read_marker(folder: Path) -> set[str]:
    """Return the files that an earlier export wrote, or was about to write."""
    path = folder / MARKER
    try:
        wire = json.loads(path.read_bytes())
        if wire["format"] != _FORMAT:
            raise ExportError(
                f"{path}: expected format {_FORMAT}, found {wire['format']!r}",
                next_step="export into a new folder",
            )
        return {str(one) for one in wire["files"]}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path}: expected the list of an earlier export, found: {error}",
            next_step="export into a new folder",
        ) from error


def _refuse_strangers(folder: Path, ours: set[str]) -> None:
    if not folder.exists():
        return
    found = {str(one.relative_to(folder)) for one in folder.rglob("*")}
    strange = sorted(
        one
        for one in found - ours - {MARKER}
        if not (folder / one).is_dir() and not Path(one).name.startswith(".writing-")
    )
    if strange:
        raise ExportError(
            f"{folder}: expected an empty folder or an earlier export, found"
            f" {', '.join(strange[:3])}{' and more' if len(strange) > 3 else ''}",
            next_step="name a new folder, for example a subfolder of the stick",
        )


def _write_marker(folder: Path, receiver: Receiver, files: set[str]) -> None:
    wire = {
        "format": _FORMAT,
        "fleet": receiver.fleet,
        "device": receiver.device,
        "files": sorted(files),
    }
    save_bytes(folder / MARKER, json.dumps(wire, indent=1).encode())


def _nothing_for(fleet: str) -> NotFoundError:
    return NotFoundError(
        f"fleet {fleet}: expected a document that says what it should run, found none",
        next_step="start a rollout with `edge-fleet rollout create`",
    )


def _damaged(path: str, found: str) -> ExportError:
    return ExportError(
        f"{path}: expected what the repository's metadata describes, found {found}",
        next_step="run the export again; if it stays, restore the server's tuf folder",
    )
