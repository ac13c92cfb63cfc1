# SPDX-License-Identifier: Apache-2.0
"""The status file: what the running agent says of itself every two seconds.

Owns run/status.json in the state folder. It is for ``edge-agent status`` and for
people; the server learns the same from births and heartbeats.
"""

import json
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import StateError
from edge_agent.store import is_locked, write_atomic

STATUS_SECONDS: Final = 2.0
LOCK_NAME: Final = "lock"
_FILE: Final = Path("run", "status.json")


def write_status(state_dir: Path, status: dict[str, Any]) -> None:
    """Replace the status file; a power cut may lose it, a reader never sees half.

    Raises:
        OSError: The disk refused.
    """
    path = state_dir / _FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_atomic(path, json.dumps(status, indent=1).encode(), durable=False)


def read_status(state_dir: Path) -> dict[str, Any]:
    """Return the last status, with ``running`` from the lock of the state folder.

    Raises:
        StateError: No agent has run with this state folder, or the file is damaged.
    """
    path = state_dir / _FILE
    try:
        status = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        msg = f"{state_dir}: no agent has run with this state folder"
        raise StateError(msg, next_step="start `edge-agent run`") from error
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise StateError(msg, next_step="start `edge-agent run` again") from error
    if not isinstance(status, dict):
        msg = f"{path}: expected keys and values"
        raise StateError(msg, next_step="start `edge-agent run` again")
    return {"running": is_locked(state_dir / LOCK_NAME), **status}
