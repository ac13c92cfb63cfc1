# SPDX-License-Identifier: Apache-2.0
"""A registry on disk with a clock that tests set, and a device that reads it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from edge_contract.bundle import write_bundle
from fleet.config import FleetConfig, StateLayout
from fleet.registry import Registry, RepositoryPaths, init_repository
from fleet.services import Services
from tests.support.contract_samples import make_release
from tests.support.tuf_reader import TufReader


@dataclass
class SetClock:
    """A clock that goes when told."""

    time: datetime = field(
        # The reader's clock is the machine's, so this one must be near it.
        default_factory=lambda: datetime.now(UTC).replace(microsecond=0)
    )

    def wall_us(self) -> int:
        return int(self.time.timestamp()) * 1_000_000

    def monotonic_seconds(self) -> float:
        return self.time.timestamp()

    def now(self) -> datetime:
        return self.time

    def advance(self, **how: float) -> None:
        self.time += timedelta(**how)


class NoDevices:
    """A down link to nobody."""

    def __init__(self) -> None:
        self.announced: list[tuple[str, int, int]] = []

    def publish_announce(self, fleet: str, version: int, spread_seconds: int) -> None:
        self.announced.append((fleet, version, spread_seconds))

    def send_command(
        self,
        device: str,
        kind: str,
        arguments: dict[str, object],
        *,
        valid_seconds: int,
    ) -> str:
        raise AssertionError((device, kind, arguments, valid_seconds))


@dataclass
class World:
    """All that a test of the registry touches."""

    state: Path
    clock: SetClock
    paths: RepositoryPaths
    services: Services

    def open(self) -> Registry:
        registry = Registry(self.services)
        registry.start()
        return registry

    def reader(self, name: str = "device") -> TufReader:
        return TufReader(
            self.state / "tuf", self.state / name, self.paths.root.read_bytes()
        )

    def bundle(
        self, model: bytes, *, name: str = "sample", key: bytes | None = None
    ) -> Path:
        path = self.state / f"{len(list(self.state.iterdir()))}.bundle"
        manifest, contents = make_release(model, name)
        sign_key = self.paths.builder_key.read_bytes() if key is None else key
        write_bundle(path, manifest, contents, sign_key=sign_key or None)
        return path


def make_world(state: Path, engine: Engine) -> World:
    """Make a repository for the fleet ``default`` below ``state``."""
    clock = SetClock()
    paths = init_repository(state, ["default"], clock.now)
    services = Services(
        config=FleetConfig(),
        layout=StateLayout(state),
        engine=engine,
        clock=clock,
        downlink=NoDevices(),
    )
    return World(state, clock, paths, services)
