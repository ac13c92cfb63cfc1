# SPDX-License-Identifier: Apache-2.0
"""Sources, sinks and the service of a device, as the configuration names them."""

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

import edge_agent
from edge_agent.clock import Clock
from edge_agent.config import ServiceConfig, SlotConfig
from edge_agent.daemon.metrics import format_metrics
from edge_agent.flow import Accountable, Chunk, Grid, Repository, Sink, Source
from edge_agent.sinks import choose as sinks
from edge_agent.sources import choose as sources

IDLE_SECONDS: Final = 0.25


class NullSource:
    """Brings no rows: only the local service asks the model."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    @property
    def features(self) -> int | None:
        """Nobody knows."""
        return None

    @property
    def is_exhausted(self) -> bool:
        """Never: it had nothing to begin with."""
        return False

    def read(self, grid: Grid) -> Chunk | None:
        """Wait a moment."""
        del grid
        self._closed.wait(IDLE_SECONDS)
        return None

    def close(self) -> None:
        """Wake up a waiting ``read``."""
        self._closed.set()


def open_source(slot: SlotConfig, window_us: int, clock: Clock) -> Source:
    """Open the source of a slot, or one that brings nothing.

    Raises:
        EdgeError: It cannot be opened.
    """
    if slot.source is None:
        return NullSource()
    return sources.open_source(slot.source, window_us, clock)


def open_sink(slot: SlotConfig) -> Sink:
    """Open the sinks of a slot as one; with none, results are only counted.

    Raises:
        EdgeError: One cannot be opened.
    """
    return sinks.open_sinks(slot.sinks)


def account_of(part: object) -> dict[str, int | str]:
    """Return what a source or sink says of itself; nothing where it says nothing."""
    return dict(part.account) if isinstance(part, Accountable) else {}


class Service(Protocol):
    """The local service, as far as the daemon knows it."""

    def start(self) -> None:
        """Listen.

        Raises:
            ServeError: An address is taken, or an extra is not installed.
        """

    def stop(self) -> None:
        """Answer what is being computed, and close."""


def open_service(
    config: ServiceConfig | None,
    repository: Repository,
    status: Callable[[], dict[str, Any]],
    clock: Clock,
) -> Service | None:
    """Make the local service; imported only where something is to listen."""
    if config is None or not (config.http or config.unix or config.grpc):
        return None
    from edge_agent.batch.store import StoredPredictions
    from edge_agent.serve.server import Server

    return Server(
        config,
        repository,
        metrics=lambda: format_metrics(status()),
        status=status,
        predictions=StoredPredictions(config.predictions),
        clock=clock,
        version=edge_agent.__version__,
    )
