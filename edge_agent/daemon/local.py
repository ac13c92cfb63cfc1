# SPDX-License-Identifier: Apache-2.0
"""A slot that serves a file of its own, without a fleet.

Owns how the file of ``models.SLOT.bundle`` comes into the slot's store: copied first,
verified and probed as a copy (nobody can exchange it in between), then treated like any
other release: trial, commit or the way back. A replaced file is taken up while the
agent runs; one that was refused is not looked at again until it changes.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.ota.slots import Slots
from edge_agent.probe import Proof
from edge_agent.store import write_atomic
from edge_contract.errors import EdgeError
from edge_contract.update_policy import UpdatePolicy
from edge_contract.wire import Scalar

LOOK_US: Final = 2_000_000
SETTLE_SECONDS: Final = 1.0
_LOG = logging.getLogger(__name__)
_Identity = list[list[Any]]


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """A verified release that waits to be tried; see ``deployment.Staged``."""

    digest: str
    path: Path
    policy: UpdatePolicy = field(default_factory=UpdatePolicy)
    is_on_trial: bool = False
    figures: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocalRules:
    """Where the file is and how it is judged.

    Attributes:
        bundle: The file.
        trust: Public key files; another one has the file judged anew.
        judge: Verifies and probes a copy; raises an ``EdgeError`` where it must not
            serve.
        complain: Told why a file was refused.
    """

    bundle: Path
    trust: Sequence[Path]
    judge: Callable[[Path], Proof]
    complain: Callable[[str], None]


class LocalUpdates:
    """The file as a source of releases; an ``Updates`` of ``deployment``.

    Args:
        folder: The slot's folder.
        slots: Its releases.
        rules: Where the file is and how it is judged.
        clock: The time.
    """

    def __init__(
        self, folder: Path, slots: Slots, rules: LocalRules, clock: Clock
    ) -> None:
        self._slots = slots
        self._rules = rules
        self._clock = clock
        self._part = folder / "local.part"
        self._note = folder / "local.json"
        self._seen = self._read_note()
        self._trial: str | None = None
        self._trial_identity: _Identity = []
        self._due_us = clock.monotonic_us()
        if slots.trial is not None:
            slots.roll_back()  # a kill came in the middle of a trial

    def prepare(self) -> None:
        """Have a release to start with, where there is none yet.

        Raises:
            EdgeError: The file must not serve.
            OSError: It cannot be read.
        """
        if self._slots.active is None:
            identity = self._identify()
            digest = self._bring_in()
            self._slots.begin_trial(digest)
            self._slots.commit()
            self._write_note(identity)

    def poll(self) -> LocalRelease | None:
        """Return a release to try where the file was replaced; see ``Updates``."""
        if self._trial is not None or self._clock.monotonic_us() < self._due_us:
            return None
        self._due_us = self._clock.monotonic_us() + LOOK_US
        try:
            identity = self._identify()
            age = self._clock.wall_us() / 1e6 - self._rules.bundle.stat().st_mtime
        except OSError:
            return None  # deleted: what is in the store goes on serving
        if identity == self._seen or 0 <= age < SETTLE_SECONDS:
            return None
        try:
            digest = self._bring_in()
        except (EdgeError, OSError) as error:
            self._seen = identity
            self._rules.complain(f"{self._rules.bundle}: {error}")
            return None
        if digest == self._slots.active:
            self._write_note(identity)
            return None
        self._trial, self._trial_identity = digest, identity
        return LocalRelease(digest, self._slots.path(digest))

    def is_wanted(self, digest: str) -> bool:
        """Return that it is: a file has no policy that asks for a shadow."""
        return digest == self._trial

    def begin_shadow(self) -> None:
        """Hear nothing: see ``is_wanted``."""

    def note_shadow(self, figures: Mapping[str, Scalar]) -> None:
        """Hear nothing: see ``is_wanted``."""

    def begin_trial(self) -> None:
        """Hear that the release is about to serve."""
        if self._trial is not None:
            self._slots.begin_trial(self._trial)

    def committed(self, figures: Mapping[str, Scalar] | None = None) -> None:
        """Hear that the release in trial serves for good."""
        del figures
        self._slots.commit()
        self._trial = None
        self._write_note(self._trial_identity)

    def rolled_back(
        self,
        reason: str,
        detail: str = "",
        figures: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Hear that the release does not serve."""
        del figures
        self._slots.roll_back()
        self._trial = None
        self._write_note(self._trial_identity)
        self._slots.collect()
        self._rules.complain(f"{self._rules.bundle}: {reason} {detail}".rstrip())

    def _bring_in(self) -> str:
        """Copy, verify and probe the file, and adopt it; return its digest."""
        try:
            with self._rules.bundle.open("rb") as source, self._part.open("wb") as part:
                shutil.copyfileobj(source, part)
                part.flush()
                os.fsync(part.fileno())
            proof = self._rules.judge(self._part)
            self._slots.adopt(proof.digest, self._part)
        finally:
            self._part.unlink(missing_ok=True)
        return proof.digest

    def _identify(self) -> _Identity:
        """Return what changes when the file or a key does."""
        found: _Identity = []
        for path in (self._rules.bundle, *self._rules.trust):
            stat = path.stat()
            found.append([str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size])
        return found

    def _read_note(self) -> _Identity:
        try:
            found: _Identity = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return []
        return found

    def _write_note(self, identity: _Identity) -> None:
        self._seen = identity
        write_atomic(self._note, json.dumps(identity).encode())
