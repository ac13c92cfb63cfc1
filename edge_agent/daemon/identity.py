# SPDX-License-Identifier: Apache-2.0
"""What the device says of itself: births and heartbeats.

Owns the words for its hardware and runtimes. What it serves it is told.
"""

import os
import platform
from collections.abc import Mapping
from typing import Final

import psutil

import edge_agent
from edge_agent.clock import Clock
from edge_agent.daemon.wanted import Wanted
from edge_agent.runtime.backend import find_backend
from edge_agent.runtime.hardware import AUTO, find_device_profile
from edge_agent.runtime.session import Session
from edge_contract.errors import EdgeError
from edge_contract.messages import Birth
from edge_contract.wire import Scalar

RUNTIMES: Final = ("litert",)


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
