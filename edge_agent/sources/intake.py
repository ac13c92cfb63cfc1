# SPDX-License-Identifier: Apache-2.0
"""From readings to chunks: what fits the model, in an order that makes sense.

Owns the rules for streams whose sender we do not control. A reading of another width is
refused. One that repeats the stream's last (its id, or its own time and values) is
passed over. One that is older than the stream's last is refused, unless by more than a
minute: then the sender's clock was set, and the stream begins anew. So does a stream
that was silent for longer than ``gap``. Time that the sender does not say is when it
came.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Float32, Grid
from edge_agent.sources.reading import Reading
from edge_agent.tally import Tally

MAX_STREAMS: Final = 4096
CLOCK_SET_US: Final = 60_000_000


@dataclass(slots=True, eq=False)
class _Stream:
    time_us: int
    id: str
    said_us: int | None
    rows: Float32


class Intake:
    """Puts the readings of one source in order.

    Args:
        tally: Counts what is refused and passed over.
        gap_us: A longer silence begins a stream anew; None: none does.
    """

    def __init__(self, tally: Tally, gap_us: int | None) -> None:
        self._tally = tally
        self._gap_us = gap_us
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self.features: int | None = None

    def take(self, reading: Reading, came_us: int, grid: Grid) -> Iterator[Chunk]:
        """Yield the chunks of a reading, each of at most one hop.

        Args:
            reading: What a message said.
            came_us: When it came.
            grid: How the model cuts frames.

        Raises:
            SourceError: It is of another width, or too old.
        """
        rows = _fit(reading, grid)
        self.features = rows.shape[1]
        before = self._streams.get(reading.stream)
        if before is not None and _repeats(reading, rows, before):
            self._tally.count("repeated")
            return
        time_us, is_start = self._place(reading, came_us, before)
        self._remember(reading, rows, time_us)
        self._tally.count("taken")
        for start in range(0, len(rows), grid.hop):
            part = rows[start : start + grid.hop]
            yield Chunk(
                stream=reading.stream,
                rows=part,
                times_us=np.full(len(part), time_us, dtype=np.int64),
                is_start=is_start and start == 0,
                id=reading.id if start + grid.hop >= len(rows) else "",
            )

    def _place(
        self, reading: Reading, came_us: int, before: _Stream | None
    ) -> tuple[int, bool]:
        """Return the event time of a reading, and whether its stream begins anew."""
        time_us = came_us if reading.time_us is None else reading.time_us
        if before is None:
            return time_us, True
        passed_us = time_us - before.time_us
        if passed_us < -CLOCK_SET_US:
            self._tally.count("clock_set")
            return time_us, True
        if passed_us < 0:
            if reading.time_us is None:
                return before.time_us, False
            msg = (
                f"stream {reading.stream}: expected a time after the last one, "
                f"found one {-passed_us / 1e6:g} s before it"
            )
            raise SourceError(msg, next_step="send readings in their order")
        return time_us, self._gap_us is not None and passed_us > self._gap_us

    def _remember(self, reading: Reading, rows: Float32, time_us: int) -> None:
        kept = _Stream(time_us, reading.id, reading.time_us, rows[-1])
        self._streams[reading.stream] = kept
        self._streams.move_to_end(reading.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)


def _fit(reading: Reading, grid: Grid) -> Float32:
    rows = reading.rows
    if reading.is_flat and rows.shape[1] % grid.features == 0:
        return rows.reshape(-1, grid.features)
    if rows.shape[1] != grid.features:
        msg = (
            f"stream {reading.stream}: expected rows of {grid.features} values, "
            f"found {rows.shape[1]}"
        )
        raise SourceError(msg, next_step="feed what the model was built for")
    return rows


def _repeats(reading: Reading, rows: Float32, before: _Stream) -> bool:
    if reading.id or before.id:
        return reading.id == before.id
    if reading.time_us is None or reading.time_us != before.said_us:
        return False
    return bool(np.array_equal(rows[-1], before.rows, equal_nan=True))
