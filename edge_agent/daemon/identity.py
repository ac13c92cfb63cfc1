# SPDX-License-Identifier: Apache-2.0
"""What the device says of itself: births, heartbeats, and its answer to ``want``.

Owns the wanted configuration (want.json in the state folder): its generation, the tags,
and which keys were refused, with the reason. No key may be set from afar yet; consent,
budgets, addresses, sources and commands never may (contract, "Topics and messages").
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

import edge_agent
from edge_agent.clock import Clock
from edge_agent.errors import StateError
from edge_agent.runtime.backend import find_backend
from edge_agent.runtime.hardware import AUTO, find_device_profile
from edge_agent.runtime.session import Session
from edge_agent.store import write_atomic
from edge_contract.errors import EdgeError
from edge_contract.messages import Birth, Want
from edge_contract.wire import Scalar

RUNTIMES: Final = ("litert",)
REASON_LOCAL: Final = "can be set in the device's own file only"
_FILE: Final = "want.json"


@dataclass(frozen=True)
class Wanted:
    """The last wanted configuration, as far as it was taken."""

    generation: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[tuple[str, str], ...] = ()


def take_want(want: Want) -> Wanted:
    """Take what may be taken of a wanted configuration, and refuse the rest.

    >>> take_want(Want(1, 0, 7, {"samples.consent": True}, {})).refused[0][0]
    'samples.consent'
    """
    refused = tuple((key, REASON_LOCAL) for key in sorted(want.config))
    return Wanted(want.generation, dict(want.tags), refused)


def load_wanted(state_dir: Path) -> Wanted:
    """Return the wanted configuration that was saved, or an empty one.

    Raises:
        StateError: The file is damaged.
    """
    path = state_dir / _FILE
    try:
        found: Any = json.loads(path.read_bytes())
        refused = tuple((str(key), str(reason)) for key, reason in found["refused"])
        return Wanted(int(found["generation"]), dict(found["tags"]), refused)
    except FileNotFoundError:
        return Wanted()
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise StateError(
            msg, next_step="delete it; the server sends it again"
        ) from error


def save_wanted(state_dir: Path, wanted: Wanted) -> None:
    """Make a wanted configuration durable.

    Raises:
        OSError: The disk refused.
    """
    body = {
        "generation": wanted.generation,
        "tags": dict(wanted.tags),
        "refused": [list(one) for one in wanted.refused],
    }
    write_atomic(state_dir / _FILE, json.dumps(body).encode())


class Identity:
    """Builds births and heartbeats from what serves now.

    Args:
        slot: The slot that the session serves.
        session: Knows the serving model.
        clock: Stamps births.
        wanted: The wanted configuration at the start.
    """

    def __init__(
        self, slot: str, session: Session, clock: Clock, wanted: Wanted
    ) -> None:
        self._slot = slot
        self._session = session
        self._clock = clock
        self.wanted = wanted

    def serving(self) -> Mapping[str, bytes]:
        """Return the release digest of each slot that serves."""
        model = self._session.model
        return {} if model is None else {self._slot: bytes.fromhex(model.digest)}

    def birth(self, boot_id: bytes, seq: int) -> Birth:
        """Return a birth; the link fills in the lowest seq and the down floor."""
        model = self._session.model
        ref_ids = {} if model is None else {self._slot: model.profile.ref_id}
        return Birth(
            boot_id=boot_id,
            seq=seq,
            agent_version=edge_agent.__version__,
            hardware=describe_hardware(),
            runtimes=describe_runtimes(),
            serving=dict(self.serving()),
            ref_ids=ref_ids,
            generation=self.wanted.generation,
            refused=self.wanted.refused,
            lowest_seq=0,
            down_floor=0,
            time_us=self._clock.wall_us(),
            clock_synced=self._clock.is_synced(),
        )


def describe_hardware() -> dict[str, Scalar]:
    """Return machine, device profile, processors and memory."""
    return {
        "machine": platform.machine(),
        "system": platform.system().lower(),
        "python": platform.python_version(),
        "device_profile": find_device_profile(AUTO),
        "processors": os.cpu_count() or 1,
        "memory_bytes": int(psutil.virtual_memory().total),
    }


def describe_runtimes() -> dict[str, str]:
    """Return the installed inference runtimes and their versions."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = find_backend(name).runtime_version()
        except EdgeError:
            continue
    return found
