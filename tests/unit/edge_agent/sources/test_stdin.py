# SPDX-License-Identifier: Apache-2.0
"""The stdin source on real pipes: lines, their ends, nonsense between, and a stall."""

import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_agent.config.sources import StdinSourceConfig
from edge_agent.config.units import Size
from edge_agent.flow import Chunk, Grid
from edge_agent.sources import stdin
from edge_agent.sources.stdin import StdinSource
from tests.support.agent_doubles import ManualClock

GRID = Grid(1, 1, 2)


class Pipe:
    """A pipe with a source at its end."""

    def __init__(self, **config: Any) -> None:
        self.reader, self.writer = os.pipe()
        self.clock = ManualClock()
        told = StdinSourceConfig(**config)
        self.source = StdinSource(told, self.clock, self.reader)
        self._is_open = True

    def send(self, data: bytes) -> None:
        """Write into the pipe."""
        os.write(self.writer, data)

    def end(self) -> None:
        """Close the writer's end."""
        if self._is_open:
            os.close(self.writer)
            self._is_open = False

    def read_all(self) -> list[Chunk]:
        """Read until the end of the input."""
        self.end()
        found = []
        while not self.source.is_exhausted:
            chunk = self.source.read(GRID)
            if chunk is not None:
                found.append(chunk)
        return found

    def close(self) -> None:
        """Close everything."""
        self.end()
        self.source.close()
        os.close(self.reader)


@pytest.fixture
def pipes() -> Iterator[list[Pipe]]:
    made: list[Pipe] = []
    yield made
    for one in made:
        one.close()


def opened(pipes: list[Pipe], **config: Any) -> Pipe:
    pipes.append(Pipe(**config))
    return pipes[-1]


def values(chunks: list[Chunk]) -> list[list[float]]:
    return [one.rows[0].tolist() for one in chunks]


def test_json_lines_become_rows(pipes: list[Pipe]) -> None:
    pipe = opened(pipes)
    pipe.send(b'[1, 2]\n{"x": [3, 4], "id": "n", "stream": "b"}\n\n[5, 6]')
    chunks = pipe.read_all()

    assert values(chunks) == [[1, 2], [3, 4], [5, 6]]  # the last has no line break
    assert [one.stream for one in chunks] == ["stdin", "b", "stdin"]
    assert [one.id for one in chunks] == ["", "n", ""]
    assert pipe.source.features == 2


def test_csv_lines_become_rows(pipes: list[Pipe]) -> None:
    pipe = opened(pipes, format="csv")
    pipe.send(b"t,ax,ay\r\n1700000001,1,2\r\n1700000002,3,4\r\n")
    chunks = pipe.read_all()
    assert values(chunks) == [[1, 2], [3, 4]]
    assert chunks[1].times_us.tolist() == [1_700_000_002_000_000]


def test_nonsense_is_counted_said_once_and_the_rest_is_taken(
    pipes: list[Pipe], caplog: pytest.LogCaptureFixture
) -> None:
    bad = (
        b"[1]",
        b"text",
        b"\xff\xfe",
        b"[1e400, 2]",
        b'["a", 2]',
        b"[1, 2",
        b"[" + b" " * 300,
    )
    pipe = opened(pipes, max_line=Size(256))
    lines = [line for one in bad for line in (one, b"[1, 2]")]
    pipe.send(b"\n".join(lines) + b"\n[1, NaN]\n[3,")
    with caplog.at_level(logging.WARNING):
        chunks = pipe.read_all()

    assert len(chunks) == len(bad) + 1
    assert values(chunks[:-1]) == [[1, 2]] * len(bad)
    assert np.isnan(chunks[-1].rows[0, 1])
    assert pipe.source.account["refused"] == len(bad) + 1  # half a line at the end
    assert [one.message.startswith("source stdin: ") for one in caplog.records] == [
        True
    ]


def test_a_huge_line_is_passed_over_to_its_end(pipes: list[Pipe]) -> None:
    pipe = opened(pipes, max_line=Size(1024))

    def write() -> None:
        pipe.send(b"[1, 2]\n" + b"9" * 1_000_000)
        pipe.send(b"\n[3, 4]")

    writer = threading.Thread(target=write)
    writer.start()
    found: list[Chunk] = []
    while len(found) < 1 or writer.is_alive():
        chunk = pipe.source.read(GRID)
        found += [] if chunk is None else [chunk]
    writer.join()
    assert values(found + pipe.read_all()) == [[1, 2], [3, 4]]
    assert pipe.source.account["refused"] == 1


def test_a_line_may_come_in_pieces(pipes: list[Pipe]) -> None:
    pipe = opened(pipes)
    pipe.send(b"[1, ")
    assert pipe.source.read(GRID) is None
    pipe.send(b"2]\n")
    chunk = pipe.source.read(GRID)
    assert chunk is not None
    assert chunk.rows.tolist() == [[1, 2]]


def test_a_stall_returns_after_a_moment_and_close_wakes(
    pipes: list[Pipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = opened(pipes)
    assert pipe.source.read(GRID) is None
    assert not pipe.source.is_exhausted

    monkeypatch.setattr(stdin, "POLL_SECONDS", 60.0)
    found: list[Chunk | None] = []
    reader = threading.Thread(target=lambda: found.append(pipe.source.read(GRID)))
    reader.start()
    pipe.source.close()
    reader.join(10)
    assert found == [None]
    assert pipe.source.read(GRID) is None


def test_a_flood_of_nonsense_lets_the_caller_look_around(pipes: list[Pipe]) -> None:
    pipe = opened(pipes)
    pipe.send(b"x\n" * 200)
    assert pipe.source.read(GRID) is None
    assert pipe.source.account["refused"] == 64
