# SPDX-License-Identifier: Apache-2.0
"""What a feature is given, and what it gives back to be wired in.

Owns the seam between ``app`` and the feature packages: a feature offers a function
``build(services) -> Feature``. Nothing here does work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI
from sqlalchemy import Engine

from fleet.config import FleetConfig, StateLayout


class Clock(Protocol):
    """The time."""

    def wall_us(self) -> int:
        """Return microseconds since 1970 UTC."""
        ...

    def monotonic_seconds(self) -> float:
        """Return seconds that never go back."""
        ...


class SystemClock:
    """The machine's clock."""

    def wall_us(self) -> int:
        """Return microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic_seconds(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


class Bus(Protocol):
    """The way into the broker."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish with QoS 1; return False, and drop it, while not connected."""
        ...

    def deliver(self, topic: str, payload: bytes) -> bool:
        """Publish with QoS 1; return whether the broker confirmed it in time."""
        ...


class Downlink(Protocol):
    """The way to the devices. Everything here is repeated until it arrived."""

    def publish_announce(self, fleet: str, version: int, spread_seconds: int) -> None:
        """Hint to all devices of ``fleet`` that there is newer metadata."""
        ...

    def send_command(
        self, device: str, kind: str, arguments: dict[str, Any], *, valid_seconds: int
    ) -> str:
        """Store and send a command; return its id, under which the reply comes."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """What every feature is built from."""

    config: FleetConfig
    layout: StateLayout
    engine: Engine
    clock: Clock
    downlink: Downlink


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """Work that repeats in a thread of its own.

    An ``EdgeError`` that ``run`` raises is logged and the task goes on.
    """

    name: str
    every_seconds: float
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class OpenPath:
    """A request that needs no token, because its content is signed or sealed.

    Args:
        method: The HTTP method.
        pattern: A regular expression that the whole path must match.
    """

    method: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Feature:
    """What a feature gives to the server.

    Args:
        name: The package's name.
        routers: Routers with full paths below ``/api/v1`` (no prefix of their own).
        tasks: Work to repeat while the server runs.
        open_paths: Requests that need no token.
        mount: Called last, with the whole application (for the dashboard and files).
        start: Called before the server answers; may raise to stop it.
        stop: Called after the server stopped answering.
    """

    name: str
    routers: tuple[APIRouter, ...] = ()
    tasks: tuple[PeriodicTask, ...] = ()
    open_paths: tuple[OpenPath, ...] = ()
    mount: Callable[[FastAPI], None] | None = None
    start: Callable[[], None] = field(default=lambda: None)
    stop: Callable[[], None] = field(default=lambda: None)
