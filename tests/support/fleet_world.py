# SPDX-License-Identifier: Apache-2.0
"""A server's database with devices, and the production parts around it."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from fleet.auth.keyring import KeyRing
from fleet.config import FleetConfig, IngestConfig, StateLayout
from fleet.devices.enrol import insert_devices
from fleet.ingest.recorder import Outcome
from fleet.ingest.writer import Incoming, IngestWriter
from fleet.services import Services
from fleet.store.engine import database_url, open_engine, writing
from fleet.store.migrate import migrate
from fleet.store.profiles import insert_profile
from tests.support.contract_samples import make_profile
from tests.support.fleet_device import FakeDevice, Sealed

NOW_US = 1_800_000_000_000_000


class HeldClock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now_us = NOW_US

    def wall_us(self) -> int:
        """Return the held time."""
        return self.now_us

    def monotonic_seconds(self) -> float:
        """Return the held time in seconds."""
        return self.now_us / 1e6


class MemoryBus:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes, bool]] = []
        self.is_up = True

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Keep the message, unless the bus is down."""
        if self.is_up:
            self.published.append((topic, payload, retain))
        return self.is_up

    def deliver(self, topic: str, payload: bytes) -> bool:
        """Keep the message, unless the bus is down."""
        return self.publish(topic, payload)


class MemoryDownlink:
    """A downlink that keeps what is sent."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str, dict[str, Any]]] = []
        self.announces: list[tuple[str, int, int]] = []

    def publish_announce(self, fleet: str, version: int, spread_seconds: int) -> None:
        """Keep the announce."""
        self.announces.append((fleet, version, spread_seconds))

    def send_command(
        self, device: str, kind: str, arguments: dict[str, Any], *, valid_seconds: int
    ) -> str:
        """Keep the command; its id is its number."""
        del valid_seconds
        self.commands.append((device, kind, arguments))
        return f"command-{len(self.commands)}"


@dataclass
class FleetWorld:
    """A database in ``folder`` with the devices ``watch-1`` and ``watch-2``."""

    folder: Path
    engine: Engine = field(init=False)
    ring: KeyRing = field(init=False)
    clock: HeldClock = field(default_factory=HeldClock)
    outcomes: list[Outcome] = field(default_factory=list)
    confirmed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the database."""
        self.layout = StateLayout(self.folder)
        self.engine = open_engine(database_url(self.layout.database))
        self.ring = KeyRing(bytes(32))
        migrate(self.engine)
        with writing(self.engine) as connection:
            insert_devices(
                connection,
                ["watch-1", "watch-2"],
                fleet="default",
                tags={},
                now_us=NOW_US,
            )
            insert_profile(connection, make_profile(), digest="00" * 32, now_us=NOW_US)
        self.writer = IngestWriter(
            self.engine, self.ring, self.clock, IngestConfig(), self.outcomes.append
        )

    def services(self, config: FleetConfig | None = None) -> Services:
        """Return services with a downlink that only keeps."""
        return Services(
            config or FleetConfig(),
            self.layout,
            self.engine,
            self.clock,
            MemoryDownlink(),
        )

    def device(self, name: str = "watch-1", boot: int = 0) -> FakeDevice:
        """Return a device with its true keys."""
        return FakeDevice(name, self.ring.find(name, 1), boot_id=bytes([boot]) * 8)

    def ingest(self, *messages: Sealed) -> None:
        """Commit messages as one batch."""
        start = len(self.confirmed)
        self.writer.write(
            [
                Incoming(topic, data, partial(self.confirmed.append, start + i))
                for i, (topic, data) in enumerate(messages)
            ]
        )
