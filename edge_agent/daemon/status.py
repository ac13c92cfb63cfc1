# SPDX-License-Identifier: Apache-2.0
"""The status file: what the running agent says of itself every two seconds.

Owns run/status.json in the state folder, and the line of status for the service
manager. The file is for ``edge-agent status`` and for people; the server learns the
same from births and heartbeats.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import StateError
from edge_agent.flow import Readings
from edge_agent.store import is_locked, write_atomic
from edge_contract.enrolment import Enrolment

STATUS_SECONDS: Final = 2.0
LOCK_NAME: Final = "lock"
_FILE: Final = Path("run", "status.json")
_SUMS: Final = (
    "inferences",
    "failed",
    "produced",
    "raw_bytes",
    "open_inferences",
    "windows_closed",
    "windows_waiting",
    "sink_errors",
)


@dataclass(frozen=True)
class LinkStatus:
    """Whether the broker has accepted us, and refused down messages by error code."""

    is_connected: bool = False
    refused: Mapping[str, int] = field(default_factory=dict)


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


def describe(
    slots: Mapping[str, Mapping[str, Any]],
    *,
    device: Enrolment | None,
    time_us: int,
    pending: int | None,
    link: LinkStatus,
    readings: Readings,
) -> dict[str, Any]:
    """Return the status of the agent from that of its slots.

    >>> slot = {"state": "no model", "digest": None} | dict.fromkeys(_SUMS, 2)
    >>> found = describe({"a": slot, "b": slot}, device=None, time_us=0, pending=0,
    ...                  link=LinkStatus(), readings=Readings())
    >>> found["state"], found["produced"]
    ('no model', 4)
    """
    serving = {name: one["digest"] for name, one in slots.items() if one["digest"]}
    sums = {key: sum(one[key] for one in slots.values()) for key in _SUMS}
    return {
        "pid": os.getpid(),
        "fleet": None if device is None else device.fleet,
        "device": None if device is None else device.device,
        "time_us": time_us,
        "state": "serving" if serving else "no model",
        "serving": serving,
        **sums,
        "outbox_pending": pending,
        "connected": link.is_connected,
        "refused": dict(link.refused),
        **asdict(readings),
        "slots": {name: dict(one) for name, one in slots.items()},
    }


def summarise(status: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Return the status in one line for the service manager.

    Args:
        status: Of now.
        before: The one before it, for the rate; empty where there is none.
    """
    parts = []
    elapsed = (status["time_us"] - before.get("time_us", status["time_us"])) / 1e6
    for name, slot in status["slots"].items():
        if slot["digest"] is None:
            parts.append(f"{name}: no model")
            continue
        old = before.get("slots", {}).get(name, slot)
        rate = (slot["produced"] - old["produced"]) / elapsed if elapsed > 0 else 0.0
        words = f"{name}: {slot['model']}@{slot['digest'][:4]} {rate:.0f}/s"
        p95 = (slot["latency_us"] or {}).get("p95")
        parts.append(words if p95 is None else f"{words} p95 {p95 / 1000:.2f} ms")
    if status["device"] is not None:
        parts.append(f"link={'online' if status['connected'] else 'offline'}")
    parts.append(f"queue={status['outbox_pending']}")
    return " ".join(parts)
