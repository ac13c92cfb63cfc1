# SPDX-License-Identifier: Apache-2.0
"""The source and the sinks of a slot, as it was told, or ones that do nothing."""

import threading
from typing import Final

from edge_agent.clock import Clock
from edge_agent.config import SlotConfig
from edge_agent.flow import Accountable, Chunk, Grid, Sink, Source
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
