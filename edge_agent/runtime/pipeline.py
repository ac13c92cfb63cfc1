# SPDX-License-Identifier: Apache-2.0
"""From chunks of rows to frames, one framer a stream.

Owns which rows of a frame are new and when they were measured. It runs no model.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edge_agent.flow import Chunk, Float32, Grid, Int64
from edge_contract.steps import Framer

MAX_STREAMS: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One frame to infer.

    Attributes:
        id: ``<stream>:<rows of the stream so far>:<tag>``, or what the source says.
        stream: As in ``Chunk``.
        data: float32 [length, C].
        rows: float32 [n, C], the new ones of them.
        times_us: int64 [n], their event times.
        is_start: Whether this is the stream's first frame.
    """

    id: str
    stream: str
    data: Float32
    rows: Float32
    times_us: Int64
    is_start: bool


@dataclass(slots=True, eq=False)
class _Stream:
    framer: Framer
    times_us: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class FramePipeline:
    """Cuts the chunks of many streams into frames.

    Args:
        grid: Length, hop and features of a frame.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._streams: OrderedDict[str, _Stream] = OrderedDict()

    def push(self, chunk: Chunk) -> Iterator[Task]:
        """Yield the frames that end in ``chunk``, oldest first.

        Raises:
            StepError: The rows have another number of columns than before.
        """
        stream = self._stream(chunk)
        frames = stream.framer.push(chunk.rows)
        times = np.concatenate((stream.times_us, chunk.times_us))
        used = sum(frame.new_rows for frame in frames)
        stream.times_us = times[used:]
        start = 0
        for number, frame in enumerate(frames, 1):
            stop = start + frame.new_rows
            given = chunk.id if number == len(frames) else ""
            yield Task(
                id=given or f"{chunk.stream}:{frame.end_row}:{chunk.tag}",
                stream=chunk.stream,
                data=frame.data,
                rows=frame.data[-frame.new_rows :],
                times_us=times[start:stop],
                is_start=frame.end_row == frame.new_rows,
            )
            start = stop

    def _stream(self, chunk: Chunk) -> _Stream:
        stream = self._streams.get(chunk.stream)
        if stream is None or chunk.is_start:
            stream = _Stream(Framer(self.grid.length, self.grid.hop))
            self._streams[chunk.stream] = stream
        self._streams.move_to_end(chunk.stream)
        if len(self._streams) > MAX_STREAMS:
            self._streams.popitem(last=False)
        return stream
