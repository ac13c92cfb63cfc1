# SPDX-License-Identifier: Apache-2.0
"""An update without a network: a bundle from a stick, on the way of any other update.

Owns which file of a folder is meant. The file is copied first; the copy is verified,
self-tested and adopted, and the journal then says that a release waits: the daemon
tries it out as if it had come from the fleet. The fleet's own word, when it is heard
again, comes after it.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_agent.errors import UpdateError
from edge_agent.ota.machine import Journal, UpdateRecord, UpdateState
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.update import JOURNAL_NAME, LOCK_NAME
from edge_agent.probe import Proof
from edge_agent.store import StateLock

PATIENCE_SECONDS: Final = 120.0
SUFFIX: Final = ".bundle"


def find_bundle(source: Path) -> Path:
    """Return the bundle that is meant: the file itself, or the only one in a folder.

    Raises:
        UpdateError: There is none, or there are several.
    """
    if not source.is_dir():
        return source
    found = sorted(source.glob(f"*{SUFFIX}"))
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        msg = f"{source}: expected one file *{SUFFIX}, found {names}"
        raise UpdateError(msg, next_step="name the file")
    return found[0]


def import_bundle(
    state_dir: Path, slot: str, source: Path, judge: Callable[[Path], Proof]
) -> UpdateRecord:
    """Bring a bundle into a slot, up to the point where the daemon takes over.

    Args:
        state_dir: The agent's state folder.
        slot: Which model.
        source: A bundle, or a folder with one.
        judge: Verifies and self-tests a copy.

    Returns:
        The journal's record: SELFTEST and ``tested`` where a release waits.

    Raises:
        EdgeError: No bundle, not trusted, failed, or another update is under way.
    """
    bundle = find_bundle(source)
    with StateLock(state_dir / LOCK_NAME, patience_seconds=PATIENCE_SECONDS):
        folder = open_slot(state_dir, slot)
        journal, slots = Journal(folder / JOURNAL_NAME), Slots(folder)
        if journal.record.state in {UpdateState.TRIAL, UpdateState.SHADOW}:
            msg = f"models.{slot}: a release is on trial"
            raise UpdateError(msg, next_step="try again when the trial is over")
        part = folder / "part" / "import.part"
        part.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            _copy(bundle, part)
            proof = judge(part)
            digest = proof.digest
            if digest == slots.active:
                msg = f"models.{slot}: release {digest[:12]} serves already"
                raise UpdateError(msg, next_step="import another one")
            journal.begin(UpdateRecord(slot=slot, target=bundle.name, digest=digest))
            slots.adopt(digest, part)
            journal.advance(UpdateState.STAGED)
            journal.advance(UpdateState.SELFTEST)
            journal.note(tested=True)
        except OSError as error:
            raise UpdateError(
                f"{bundle}: {error.strerror}", next_step="check the stick and the disk"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return journal.record


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as stream, target.open("wb") as part:
        shutil.copyfileobj(stream, part)
        part.flush()
        os.fsync(part.fileno())
