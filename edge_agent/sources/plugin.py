# SPDX-License-Identifier: Apache-2.0
"""A source of another distribution, kept from doing harm.

Owns the guard: whatever the source raises becomes a ``SourceError``, and what it gives
is checked before it reaches the model.
"""

import numpy as np

from edge_agent.clock import Clock
from edge_agent.config.sources import PluginSourceConfig
from edge_agent.errors import SourceError
from edge_agent.flow import Accountable, Chunk, Grid, Source
from edge_agent.plugins import SOURCES, find_plugin
from edge_contract.errors import EdgeError


class PluginSource:
    """Guards a source.

    Args:
        config: Its name, and what it was told.
        clock: Passed on.
        known: Types that need no plugin.

    Raises:
        PluginError: No distribution brings it, or it cannot be imported.
        SourceError: It cannot be opened.
    """

    def __init__(
        self, config: PluginSourceConfig, clock: Clock, known: tuple[str, ...]
    ) -> None:
        self._name = config.type
        make = find_plugin(SOURCES, config.type, known)
        try:
            self._inner: Source = make(dict(config.options), clock)
        except EdgeError:
            raise
        except Exception as error:  # others' code may raise anything
            raise self._failed("cannot be opened", error) from error

    @property
    def features(self) -> int | None:
        """What the source says."""
        return self._inner.features

    @property
    def is_exhausted(self) -> bool:
        """What the source says."""
        return self._inner.is_exhausted

    @property
    def account(self) -> dict[str, int | str]:
        """What the source says of itself, if anything."""
        inner = self._inner
        return dict(inner.account) if isinstance(inner, Accountable) else {}

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next rows; see ``Source.read``.

        Raises:
            SourceError: The source failed, or gave another thing than rows of ``grid``.
        """
        try:
            chunk = self._inner.read(grid)
        except EdgeError:
            raise
        except Exception as error:  # others' code may raise anything
            raise self._failed("failed", error) from error
        if chunk is None or _fits(chunk, grid):
            return chunk
        msg = (
            f"source {self._name}: expected float32 rows of {grid.features} values "
            "with an int64 time each"
        )
        raise SourceError(msg, next_step="mend the source")

    def close(self) -> None:
        """Close the source.

        Raises:
            SourceError: It failed.
        """
        try:
            self._inner.close()
        except Exception as error:  # others' code may raise anything
            raise self._failed("failed", error) from error

    def _failed(self, what: str, error: Exception) -> SourceError:
        msg = f"source {self._name}: {what}: {type(error).__name__}: {error}"
        return SourceError(msg, next_step="mend the source, or correct its options")


def _fits(chunk: Chunk, grid: Grid) -> bool:
    rows, times = chunk.rows, chunk.times_us
    return (
        rows.dtype == np.float32
        and times.dtype == np.int64
        and rows.ndim == 2
        and rows.shape[1] == grid.features
        and times.shape == rows.shape[:1]
        and len(rows) > 0
    )
