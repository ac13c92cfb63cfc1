# SPDX-License-Identifier: Apache-2.0
"""The outbox at a start: opened, or put aside where its file is damaged.

Owns what follows from a damaged file. The agent goes on with a new outbox: serving does
not end because a disk lost a file. The counters of produced inferences belong to the
old one and go with it, since the new one must not declare lost what the server has. All
of it is kept for who wants to look, once: the next damage replaces it.
"""

import logging
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from edge_agent.clock import Clock
from edge_agent.errors import OutboxError
from edge_agent.telemetry.outbox import Outbox

FILE: Final = "outbox.sqlite"
ASIDE: Final = "damaged"
_PATTERNS: Final = (f"{FILE}*", "produced*.counter")
_LOG = logging.getLogger(__name__)


def open_outbox(state_dir: Path, max_bytes: int, clock: Clock) -> tuple[Outbox, str]:
    """Open the outbox of a state folder.

    Returns:
        The outbox, and what was wrong with the one before; empty: nothing was.

    Raises:
        OutboxError: It cannot be opened for another reason, a full disk for one.
        OSError: The disk refused to put the damaged one aside.
    """
    path = state_dir / FILE
    try:
        return Outbox(path, max_bytes, clock), ""
    except OutboxError as error:
        if not is_damage(error):
            raise
        problem = error.message
    _LOG.error("%s; it is kept in %s", problem, state_dir / ASIDE)
    _put_aside(state_dir)
    return Outbox(path, max_bytes, clock), problem


def is_damage(error: OutboxError) -> bool:
    """Return whether the file itself is the fault, and not the disk or a lock."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.DatabaseError) and not isinstance(
        cause, sqlite3.OperationalError
    )


def _put_aside(state_dir: Path) -> None:
    target = state_dir / ASIDE
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    for pattern in _PATTERNS:
        for one in sorted(state_dir.glob(pattern)):
            one.rename(target / one.name)
