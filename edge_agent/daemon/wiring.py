# SPDX-License-Identifier: Apache-2.0
"""Sources, sinks and the service, as the configuration names them.

Owns the choice, and how event time begins: at a multiple of the window's length, so
that windows hold whole frames however late the agent starts.
"""

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

import edge_agent
from edge_agent.clock import Clock
from edge_agent.config import ServiceConfig, SlotConfig
from edge_agent.daemon.metrics import format_metrics
from edge_agent.errors import SinkError
from edge_agent.flow import Chunk, Grid, Repository, Result, Sink, Source
from edge_agent.sinks.file import FileSink
from edge_agent.sources.file import FileSource, ReplayOptions

IDLE_SECONDS: Final = 0.25


class NullSink:
    """Takes results and keeps none: they are counted all the same."""

    def write(self, result: Result) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


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
        SourceError: It cannot be opened.
    """
    source = slot.source
    if source is None:
        return NullSource()
    options = ReplayOptions(
        sample_rate_hz=source.sample_rate_hz,
        frames_per_second=source.rate,
        is_interleaved=source.order == "interleaved",
        repeat=source.repeat,
        follow=source.follow,
    )
    now_us = clock.wall_us()
    return FileSource(source.path, options, now_us - now_us % window_us)


def open_sink(slot: SlotConfig) -> Sink:
    """Open the sink of a slot, or one that keeps nothing.

    Raises:
        SinkError: It cannot be opened.
    """
    if len(slot.sinks) > 1:
        msg = f"sinks: expected at most one, found {len(slot.sinks)}"
        raise SinkError(msg, next_step="leave the others out")
    return FileSink(slot.sinks[0].path) if slot.sinks else NullSink()


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
