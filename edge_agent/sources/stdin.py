# SPDX-License-Identifier: Apache-2.0
"""The ``stdin`` source: lines of JSON, or CSV under a header.

Owns the order line, reading, chunk. A line that cannot be used is counted and passed
over; the end of the input is the end of the source.
"""

import sys
from collections import deque
from typing import Final

from edge_agent.clock import Clock
from edge_agent.config.sources import StdinSourceConfig
from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources.intake import Intake
from edge_agent.sources.lines import LineReader
from edge_agent.sources.reading import CsvForm, Reading, parse_json
from edge_agent.tally import Tally

POLL_SECONDS: Final = 0.25
STREAM: Final = "stdin"
_AT_A_TIME: Final = 64  # unusable lines before the caller may look around


class StdinSource:
    """Reads the standard input.

    Args:
        config: What it was told.
        clock: When lines come.
        descriptor: What is read; None: the standard input.
    """

    def __init__(
        self, config: StdinSourceConfig, clock: Clock, descriptor: int | None = None
    ) -> None:
        if descriptor is None:
            descriptor = sys.stdin.fileno()
        self._lines = LineReader(descriptor, config.max_line.bytes)
        self._is_csv = config.format == "csv"
        self._fields = config.fields
        self._clock = clock
        self._csv: CsvForm | None = None
        self._tally = Tally("source stdin")
        gap_us = None if config.gap is None else config.gap.us
        self._intake = Intake(self._tally, gap_us)
        self._chunks: deque[Chunk] = deque()

    @property
    def features(self) -> int | None:
        """Values of a row; None before the first line that could be used."""
        return self._intake.features

    @property
    def is_exhausted(self) -> bool:
        """Whether the input is at its end."""
        return self._lines.is_exhausted and not self._chunks

    @property
    def account(self) -> dict[str, int | str]:
        """How many lines were taken, refused, repeated."""
        return dict(self._tally.account)

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next rows; see ``Source.read``. It raises nothing."""
        for _ in range(_AT_A_TIME):
            if self._chunks:
                return self._chunks.popleft()
            try:
                line = self._lines.read(POLL_SECONDS)
                if line is None:
                    return None
                reading = self._parse(line)
                if reading is not None:
                    chunks = self._intake.take(reading, self._clock.wall_us(), grid)
                    self._chunks.extend(chunks)
            except SourceError as error:
                self._tally.complain("refused", error)
        return None

    def close(self) -> None:
        """Wake up a waiting ``read``; nothing more is read."""
        self._lines.close()

    def _parse(self, line: bytes) -> Reading | None:
        if not line.strip():
            return None
        if not self._is_csv:
            return parse_json(line, self._fields, STREAM)
        if self._csv is None:
            self._csv = CsvForm(line, STREAM)
            return None
        return self._csv.parse(line)
