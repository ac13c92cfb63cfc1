# SPDX-License-Identifier: Apache-2.0
"""What the device says of itself: births and heartbeats.

Owns the words for its hardware and runtimes. What it serves it is told.
"""

import os
import platform
from collections.abc import Mapping
from typing import Protocol

import psutil

import edge_agent
from edge_agent.clock import Clock
from edge_agent.daemon.wanted import Wanted
from edge_agent.runtime.backend import RUNTIMES, find_backend
from edge_agent.runtime.hardware import AUTO, find_device_profile
from edge_agent.runtime.model import Model
from edge_contract.errors import EdgeError
from edge_contract.messages import Birth
from edge_contract.wire import Scalar


class Serving(Protocol):
    """A slot, as far as births tell of it."""

    @property
    def model(self) -> Model | None:
        """The model that serves."""


class Identity:
    """Builds births and heartbeats from what serves now.

    Args:
        slots: Know the models that serve.
        clock: Stamps births.
        wanted: The wanted configuration at the start.
    """

    def __init__(
        self, slots: Mapping[str, Serving], clock: Clock, wanted: Wanted
    ) -> None:
        self._slots = slots
        self._clock = clock
        self.wanted = wanted

    def serving(self) -> Mapping[str, bytes]:
        """Return the release digest of each slot that serves."""
        return {name: bytes.fromhex(one.digest) for name, one in self._models().items()}

    def birth(self, boot_id: bytes, seq: int) -> Birth:
        """Return a birth; the link fills in the lowest seq and the down floor."""
        models = self._models()
        return Birth(
            boot_id=boot_id,
            seq=seq,
            agent_version=edge_agent.__version__,
            hardware=describe_hardware(),
            runtimes=describe_runtimes(),
            serving={name: bytes.fromhex(one.digest) for name, one in models.items()},
            ref_ids={name: one.profile.ref_id for name, one in models.items()},
            generation=self.wanted.generation,
            refused=self.wanted.refused,
            lowest_seq=0,
            down_floor=0,
            time_us=self._clock.wall_us(),
            clock_synced=self._clock.is_synced(),
        )

    def _models(self) -> dict[str, Model]:
        found = {name: slot.model for name, slot in self._slots.items()}
        return {name: one for name, one in found.items() if one is not None}


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
