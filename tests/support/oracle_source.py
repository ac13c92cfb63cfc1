# SPDX-License-Identifier: Apache-2.0
"""A source that writes down every row before it hands it over.

It is installed as a distribution of its own, as any other plugin is, and runs in the
agent's process. What it wrote survives the process: the file is the oracle by which the
server's counts are judged.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.clock import Clock
from edge_agent.flow import Chunk, Float32, Grid

FEATURES = 2
ROW = np.dtype([("time_us", "<i8"), ("values", "<f4", (FEATURES,))])
NAME = "oracle"
_METADATA = "Metadata-Version: 2.1\nName: oracle-source\nVersion: 1\n"
_ENTRY = "[edgeloop.sources]\noracle = tests.support.oracle_source:OracleSource\n"


class OracleSource:
    """Rows at an even pace, each written to ``path`` first; goes on where it was.

    Args:
        options: ``path``, ``rate`` in rows a second, and ``seed``.
        clock: Stamps rows.
    """

    is_exhausted = False
    features = FEATURES

    def __init__(self, options: Mapping[str, Any], clock: Clock) -> None:
        path = Path(options["path"])
        self._clock = clock
        self._pause = 1.0 / float(options["rate"])
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # A kill in the middle of a write: half a row was handed to nobody.
        count = os.fstat(self._file).st_size // ROW.itemsize
        os.ftruncate(self._file, count * ROW.itemsize)
        self._random = np.random.default_rng((int(options["seed"]), count))
        self._is_start = True

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next row."""
        del grid
        time.sleep(self._pause)
        values = self._random.normal(size=(1, FEATURES)).astype(np.float32)
        if self._random.random() < 0.02:
            values[0, 0] = np.nan
        time_us = self._clock.wall_us()
        os.write(self._file, np.array([(time_us, values[0])], dtype=ROW).tobytes())
        is_start, self._is_start = self._is_start, False
        return Chunk("oracle", values, np.array([time_us]), is_start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def install(folder: Path) -> Path:
    """Make the source known to an agent that has ``folder`` on its path."""
    place = folder / "oracle_source-1.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(_METADATA)
    (place / "entry_points.txt").write_text(_ENTRY)
    return folder


def read_oracle(path: Path) -> tuple[np.ndarray[Any, Any], Float32]:
    """Return the times in microseconds and the values of all rows."""
    rows = np.fromfile(path, dtype=ROW)
    return rows["time_us"], rows["values"]
