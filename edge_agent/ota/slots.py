# SPDX-License-Identifier: Apache-2.0
"""The store of releases, and the pointers that say which one serves.

Owns ``store/<release digest>/bundle.bundle`` and ``slots.json``: *active* serves,
*previous* is kept to go back to, *trial* is being proved. A pointer moves only after
what it names is on disk. It judges no release.
"""

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import StateError
from edge_agent.store import sync_folder, write_atomic

BUNDLE_NAME: Final = "bundle.bundle"
FOLDER: Final = "slots"
_MOVING: Final = ".moving"
# What is pointed at moves before what points at it.
_UNNAMED: Final = ("part", "store", "update.json", "slots.json")
_FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pointers:
    """Release digests in hex, or None."""

    active: str | None = None
    previous: str | None = None
    trial: str | None = None


def open_slot(state_dir: Path, slot: str) -> Path:
    """Return the folder of a slot, made if it is missing.

    An agent of one slot kept its releases in the state folder itself: they become those
    of the first slot that is opened.

    Raises:
        OSError: The disk refused.
    """
    folder = state_dir / FOLDER / slot
    is_first = not (state_dir / FOLDER).exists() or (folder / _MOVING).exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    old = [one for one in _UNNAMED if (state_dir / one).exists()]
    if is_first and old:
        (folder / _MOVING).touch()  # a kill in between is followed by the rest
        for name in old:
            (state_dir / name).rename(folder / name)
        sync_folder(folder)
        sync_folder(state_dir)
    (folder / _MOVING).unlink(missing_ok=True)
    return folder


class Slots:
    """The releases of one slot.

    Args:
        folder: The slot's folder, which exists.

    Raises:
        StateError: ``slots.json`` is not what this version writes.
    """

    def __init__(self, folder: Path) -> None:
        self._store = folder / "store"
        self._path = folder / "slots.json"
        self._store.mkdir(mode=0o700, exist_ok=True)
        self._pointers = self._load()

    @property
    def active(self) -> str | None:
        """The release that serves."""
        return self._pointers.active

    @property
    def previous(self) -> str | None:
        """The release that served before."""
        return self._pointers.previous

    @property
    def trial(self) -> str | None:
        """The release that is being proved."""
        return self._pointers.trial

    def reload(self) -> None:
        """Read the pointers again: another process may have moved them."""
        self._pointers = self._load()

    def path(self, digest: str) -> Path:
        """Return where the bundle of a release is, or would be."""
        if not _DIGEST.fullmatch(digest):
            raise StateError(
                f"release digest: expected 64 hex digits, found {digest!r}"
            )
        return self._store / digest / BUNDLE_NAME

    def holds(self, digest: str) -> bool:
        """Return whether the release is in the store."""
        return self.path(digest).is_file()

    def adopt(self, digest: str, file: Path) -> Path:
        """Move a verified, synced file on the same disk into the store.

        Raises:
            OSError: The disk refused.
        """
        target = self.path(digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        file.replace(target)
        sync_folder(target.parent)
        sync_folder(self._store)
        return target

    def remove(self, digest: str) -> None:
        """Delete a release that no pointer names."""
        if digest not in self._named():
            shutil.rmtree(self.path(digest).parent, ignore_errors=True)

    def begin_trial(self, digest: str) -> None:
        """Point *trial* at a release of the store.

        Raises:
            StateError: The store does not hold it.
        """
        if not self.holds(digest):
            raise StateError(
                f"{self.path(digest)}: expected a bundle, found none",
                next_step="run `edge-agent update` again",
            )
        self._save(replace(self._pointers, trial=digest))

    def commit(self) -> None:
        """Make *trial* active and *active* previous; delete what is then unnamed.

        Raises:
            StateError: There is no trial.
        """
        now = self._pointers
        if now.trial is None:
            raise StateError("slots: expected a trial to commit, found none")
        previous = now.active if now.active != now.trial else now.previous
        self._save(Pointers(active=now.trial, previous=previous))
        self.collect()

    def roll_back(self) -> None:
        """Drop the trial; *active* is untouched."""
        self._save(replace(self._pointers, trial=None))

    def collect(self, keep: str | None = None) -> list[str]:
        """Delete every release that no pointer names, but ``keep``; return them."""
        wanted = self._named() | {keep}
        gone = [one.name for one in self._store.iterdir() if one.name not in wanted]
        for name in gone:
            shutil.rmtree(self._store / name, ignore_errors=True)
        return sorted(gone)

    def _named(self) -> set[str | None]:
        now = self._pointers
        return {now.active, now.previous, now.trial}

    def _load(self) -> Pointers:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return Pointers()
        try:
            return _pointers(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(
                f"{self._path}: malformed: {error}",
                next_step="delete the file; the next update writes it again",
            ) from error

    def _save(self, pointers: Pointers) -> None:
        wire = {"format": _FORMAT, **asdict(pointers)}
        write_atomic(self._path, json.dumps(wire, indent=1).encode())
        self._pointers = pointers


def _pointers(wire: dict[str, Any]) -> Pointers:
    if wire.pop("format") != _FORMAT or not all(
        one is None or _DIGEST.fullmatch(one) for one in wire.values()
    ):
        raise ValueError(f"expected format {_FORMAT} and digests")
    return Pointers(**wire)


def free_bytes(folder: Path) -> int:
    """Return how many bytes an ordinary process may still write to this disk."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize
