# SPDX-License-Identifier: Apache-2.0
"""What flows from a source through the model to statistics and a sink.

Owns the values and the seams (Protocols) between ``sources``, ``runtime``, ``stats``
and ``sinks``, which are strangers to each other. It does nothing itself.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """How a model cuts frames: ``length`` rows of ``features``, every ``hop`` rows."""

    length: int
    hop: int
    features: int


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive rows of one stream.

    Attributes:
        stream: Names the stream; stable over its life.
        rows: float32 [n, C].
        times_us: int64 [n], event time of each row, microseconds since the epoch.
        is_start: Whether the stream begins here: frames never reach back over it.
        tag: Goes into the ids of the frames that end here, after the row number.
    """

    stream: str
    rows: Float32
    times_us: Int64
    is_start: bool
    tag: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One inference as statistics see it.

    Attributes:
        stream: As in ``Chunk``.
        rows: float32 [n, F], the rows that no earlier inference held.
        times_us: int64 [n], their event times, never decreasing.
        is_start: Whether the first of ``rows`` is the first of its stream.
        output: float32 [K], or None where the inference failed.
    """

    stream: str
    rows: Float32
    times_us: Int64
    is_start: bool
    output: Float32 | None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One inference as a sink sees it; ``error`` is None where it succeeded."""

    id: str
    time_us: int
    digest: str
    output: Float32 | None
    error: str | None


class Source(Protocol):
    """Where rows come from."""

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next rows, at most those of one frame.

        Returns:
            None when nothing came within a moment; ask again unless ``is_exhausted``.

        Raises:
            SourceError: What is there cannot be read, or does not fit ``grid``.
        """

    @property
    def features(self) -> int | None:
        """Values of a row; None while that is not known."""

    @property
    def is_exhausted(self) -> bool:
        """Whether no row will ever come again."""

    def close(self) -> None:
        """Let go of what the source holds, and wake up a waiting ``read``."""


class Sink(Protocol):
    """Where results go. A failing sink never stops inference."""

    def write(self, result: Result) -> None:
        """Take one result; may buffer.

        Raises:
            SinkError: It cannot be written.
        """

    def flush(self) -> None:
        """Write what is buffered; called about once a second.

        Raises:
            SinkError: It cannot be written.
        """

    def close(self) -> None:
        """Write what is buffered, and let go of what the sink holds."""


class Observer(Protocol):
    """Who counts what the model saw and said."""

    def record(self, observation: Observation) -> None:
        """Copy one inference; called once for each, failed or not."""
