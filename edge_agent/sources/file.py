# SPDX-License-Identifier: Apache-2.0
"""The ``file`` source: replays recordings at a rate, over and over if asked.

Owns the order of the rows. ``interleaved`` takes one frame of each recording in turn:
the first frame of a recording brings ``length`` new rows, each later one ``hop``; a
recording with fewer than ``hop`` rows left begins anew in that same turn. Event time
goes on evenly over everything emitted, so that statistics do not depend on how fast the
machine is.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources.recording import Recording, load_recordings

POLL_SECONDS: Final = 0.25
_MAX_LAG_SECONDS: Final = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How a file is replayed.

    Attributes:
        sample_rate_hz: Rows a second of event time.
        frames_per_second: How fast, on the machine's clock; 0 is as fast as possible.
        is_interleaved: One frame of each recording in turn, else one after another.
        repeat: Whether to begin anew at the end.
        follow: Whether to read the file again when it is replaced.
    """

    sample_rate_hz: float
    frames_per_second: float = 0.0
    is_interleaved: bool = True
    repeat: bool = True
    follow: bool = True


@dataclass(slots=True, eq=False)
class _Cursor:
    recording: Recording
    end: int = 0
    loop: int = 0
    is_done: bool = False

    def take(self, grid: Grid, *, repeat: bool) -> tuple[int, int] | None:
        """Return the next new rows as (start, stop), or None at the end."""
        total = len(self.recording.rows)
        if self.end and self.end + grid.hop > total:
            if not repeat:
                self.is_done = True
                return None
            self.restart()
        start = self.end
        self.end += grid.hop if start else grid.length
        return start, self.end

    def restart(self) -> None:
        """Begin the recording anew."""
        self.end, self.loop, self.is_done = 0, self.loop + 1, False


@dataclass(slots=True)
class _Pace:
    """Evenly spaced turns; what was missed by more than a second is not made up."""

    period_seconds: float
    due_seconds: float = field(default_factory=time.monotonic)

    def wait_seconds(self) -> float:
        now = time.monotonic()
        self.due_seconds = max(self.due_seconds, now - _MAX_LAG_SECONDS)
        return max(0.0, self.due_seconds - now)


class FileSource:
    """Replays the recordings of an ``.npz``, ``.csv`` or ``.parquet`` file.

    Args:
        path: See ``recording`` for its form.
        options: Order, rates, and what happens at the end.
        origin_us: Event time of the first row, microseconds since the epoch.
        load: Reads the file; tests may pass their own.

    Raises:
        SourceError: The file cannot be read, and is not awaited (``follow``).
    """

    def __init__(
        self,
        path: Path,
        options: ReplayOptions,
        origin_us: int,
        load: Callable[[Path], list[Recording]] = load_recordings,
    ) -> None:
        self._path = path
        self._options = options
        self._origin_us = origin_us
        self._load = load
        self._emitted = 0
        self._recordings: list[Recording] = []
        self._cursors: list[_Cursor] = []
        self._turn = 0
        self._grid: Grid | None = None
        self._identity: tuple[int, int, int] | None = None
        self._next_look = 0.0
        rate = options.frames_per_second
        self._pace = _Pace(1 / rate if rate else 0.0)
        self._closed = threading.Event()
        if not options.follow:
            self._reload()

    @property
    def features(self) -> int | None:
        """Values of a row; None while there is no file."""
        return self._recordings[0].rows.shape[1] if self._recordings else None

    @property
    def is_exhausted(self) -> bool:
        """Whether the end was reached, and nothing is awaited."""
        done = bool(self._cursors) and all(one.is_done for one in self._cursors)
        return done and not self._options.follow

    def read(self, grid: Grid) -> Chunk | None:
        """Return the rows of the next frame, when it is due; see ``Source.read``.

        Raises:
            SourceError: The file cannot be read, or does not fit ``grid``.
        """
        self._look()
        if grid != self._grid:
            self._fit(grid)
        early = self._pace.wait_seconds()
        if self._closed.wait(min(early, POLL_SECONDS)) or early > POLL_SECONDS:
            return None
        found = self._next(grid)
        if found is None:
            self._closed.wait(POLL_SECONDS)
            return None
        cursor, (start, stop) = found
        self._pace.due_seconds += self._pace.period_seconds
        numbers = np.arange(self._emitted, self._emitted + stop - start)
        self._emitted += stop - start
        offsets = numbers * 1_000_000 / self._options.sample_rate_hz
        return Chunk(
            stream=cursor.recording.name,
            rows=cursor.recording.rows[start:stop],
            times_us=self._origin_us + np.rint(offsets).astype(np.int64),
            is_start=start == 0,
            tag=str(cursor.loop),
        )

    def check(self, grid: Grid) -> None:
        """Refuse a file that does not fit ``grid``, before anything is read.

        Raises:
            SourceError: The rows are of another width, or no recording is long enough.
        """
        self._fit(grid)

    def close(self) -> None:
        """Wake up a waiting ``read``; nothing more is read."""
        self._closed.set()

    def _look(self) -> None:
        if not self._options.follow or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + POLL_SECONDS
        try:
            found = self._path.stat()
        except OSError:
            found = None
        identity = found and (found.st_ino, found.st_mtime_ns, found.st_size)
        if identity is not None and identity != self._identity:
            self._identity = identity
            self._reload()
        elif not self._recordings:
            msg = f"source {self._path}: expected a file of recordings, found none"
            raise SourceError(msg, next_step="put one there; the agent waits for it")

    def _reload(self) -> None:
        self._recordings = self._load(self._path)
        self._grid = None
        _LOG.info("%s: %d recordings", self._path.name, len(self._recordings))

    def _fit(self, grid: Grid) -> None:
        """Begin every recording anew under another grid."""
        features = self.features
        if features != grid.features:
            msg = (
                f"source {self._path}: expected rows of {grid.features} values, "
                f"found {features}"
            )
            raise SourceError(msg, next_step="feed what the model was built for")
        self._cursors = [
            _Cursor(one) for one in self._recordings if len(one.rows) >= grid.length
        ]
        if not self._cursors:
            msg = f"source {self._path}: no recording has {grid.length} rows"
            raise SourceError(msg, next_step="record for longer")
        self._grid = grid
        self._turn = 0

    def _next(self, grid: Grid) -> tuple[_Cursor, tuple[int, int]] | None:
        if self._options.is_interleaved:
            return self._next_in_turn(grid)
        return self._next_in_sequence(grid)

    def _next_in_turn(self, grid: Grid) -> tuple[_Cursor, tuple[int, int]] | None:
        for _ in self._cursors:
            cursor = self._cursors[self._turn]
            self._turn = (self._turn + 1) % len(self._cursors)
            part = cursor.take(grid, repeat=self._options.repeat)
            if part is not None:
                return cursor, part
        return None

    def _next_in_sequence(self, grid: Grid) -> tuple[_Cursor, tuple[int, int]] | None:
        for _ in range(len(self._cursors) + 1):
            cursor = self._cursors[self._turn]
            part = cursor.take(grid, repeat=False)
            if part is not None:
                return cursor, part
            if self._turn + 1 < len(self._cursors):
                self._turn += 1
            elif self._options.repeat:
                self._turn = 0
                for one in self._cursors:
                    one.restart()
        return None
