# SPDX-License-Identifier: Apache-2.0
"""The stdout sink: a pipe that is read, one that is not, and one that is gone."""

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.errors import SinkError, SinkRefusedError
from edge_agent.flow import Result
from edge_agent.sinks import stdout
from edge_agent.sinks.stdout import StdoutOutlet
from tests.support.sinks import make_result


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    monkeypatch.setattr(stdout, "PATIENCE_SECONDS", 0.05)
    ends = os.pipe()
    yield ends
    for one in ends:
        try:
            os.close(one)
        except OSError:
            continue  # the test closed it


def wide(name: str) -> Result:
    """A result whose line is longer than a pipe takes at once."""
    return Result(name, 1, "ab", np.zeros(2000, dtype=np.float32), None)


def test_results_are_lines(pipe: tuple[int, int]) -> None:
    outlet = StdoutOutlet(pipe[1])
    assert outlet.put([make_result("a"), wide("b")]) == 2
    lines = os.read(pipe[0], 100_000).splitlines()
    assert [json.loads(one)["id"] for one in lines] == ["a", "b"]


def test_a_reader_that_does_not_read_loses_and_repeats_nothing(
    pipe: tuple[int, int],
) -> None:
    outlet = StdoutOutlet(pipe[1])
    names = [f"r{number}" for number in range(40)]  # 40 lines of 8 kB fill a pipe
    results = [wide(name) for name in names]
    taken = outlet.put(results)
    assert 1 <= taken < 40
    with pytest.raises(SinkError, match="does not read"):
        outlet.put(results[taken:])

    found = b""
    while taken < 40 or outlet._rest:
        found += os.read(pipe[0], 65536)
        try:
            taken += outlet.put(results[taken:])
        except SinkError:
            continue
    os.close(pipe[1])
    while part := os.read(pipe[0], 65536):
        found += part
    assert [json.loads(one)["id"] for one in found.splitlines()] == names


def test_a_reader_that_is_gone_is_a_refusal(pipe: tuple[int, int]) -> None:
    outlet = StdoutOutlet(pipe[1])
    os.close(pipe[0])
    for _ in range(2):
        with pytest.raises(SinkRefusedError, match="Broken pipe"):
            outlet.put([make_result("a")])
