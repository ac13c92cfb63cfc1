# SPDX-License-Identifier: Apache-2.0
"""Sources and sinks by the type that the configuration names.

Owns the choice, and how event time begins: at a multiple of the window's length, so
that windows hold whole frames however late the agent starts.
"""

import threading
from typing import Final

from edge_agent.clock import Clock
from edge_agent.config import SlotConfig
from edge_agent.errors import SinkError
from edge_agent.flow import Chunk, Grid, Result, Sink, Source
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
