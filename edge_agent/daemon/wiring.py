# SPDX-License-Identifier: Apache-2.0
"""The source of a slot: the one that it was told, or one that brings nothing."""

import threading
from typing import Final

from edge_agent.clock import Clock
from edge_agent.config import SlotConfig
from edge_agent.flow import Accountable, Chunk, Grid, Source
from edge_agent.sources.choose import open_source

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


def open_slot_source(slot: SlotConfig, window_us: int, clock: Clock) -> Source:
    """Open the source of a slot, or one that brings nothing.

    Raises:
        EdgeError: It cannot be opened.
    """
    if slot.source is None:
        return NullSource()
    return open_source(slot.source, window_us, clock)


def account_of(part: object) -> dict[str, int | str]:
    """Return what a source or sink says of itself; nothing where it says nothing."""
    return dict(part.account) if isinstance(part, Accountable) else {}
