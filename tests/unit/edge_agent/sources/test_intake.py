# SPDX-License-Identifier: Apache-2.0
"""The order of readings: repeats, time that goes back, clocks that are set, silence."""

from typing import Any

import numpy as np
import pytest

from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources import intake
from edge_agent.sources.intake import Intake
from edge_agent.sources.reading import Reading
from edge_agent.tally import Tally

GRID = Grid(4, 2, 1)
NOW = 1_700_000_000_000_000


class Taker:
    """An intake under the test's clock."""

    def __init__(self, gap_us: int | None = None) -> None:
        self.tally = Tally("test")
        self.intake = Intake(self.tally, gap_us)
        self.now_us = NOW

    def take(self, *values: float, grid: Grid = GRID, **more: Any) -> list[Chunk]:
        """Take one reading; a value is a row."""
        rows = np.array(values, dtype=np.float32).reshape(-1, 1)
        reading = Reading(rows, more.pop("stream", "s"), **more)
        return list(self.intake.take(reading, self.now_us, grid))


def test_a_reading_becomes_chunks_of_at_most_a_hop() -> None:
    taker = Taker()
    chunks = taker.take(1, 2, 3, 4, 5, id="n")

    assert [one.rows.ravel().tolist() for one in chunks] == [[1, 2], [3, 4], [5]]
    assert [one.is_start for one in chunks] == [True, False, False]
    assert [one.id for one in chunks] == ["", "", "n"]
    assert {int(time) for one in chunks for time in one.times_us} == {NOW}
    assert taker.intake.features == 1


def test_another_width_is_refused_and_the_stream_goes_on() -> None:
    taker = Taker()
    wide = Reading(np.zeros((1, 3), dtype=np.float32), "s")
    with pytest.raises(SourceError, match="expected rows of 1 values, found 3"):
        list(taker.intake.take(wide, NOW, GRID))
    flat = Reading(np.zeros((1, 3), dtype=np.float32), "s", is_flat=True)
    assert sum(len(one.rows) for one in taker.intake.take(flat, NOW, GRID)) == 3


def test_a_repeat_is_passed_over() -> None:
    taker = Taker()
    assert taker.take(1, id="a")
    assert not taker.take(2, id="a")
    assert taker.take(2, id="b")
    assert taker.take(2, time_us=NOW)
    assert not taker.take(2, time_us=NOW)
    assert taker.take(3, time_us=NOW)
    assert taker.take(3)
    assert taker.take(3)  # a sensor may say the same for long
    assert taker.tally.account["repeated"] == 2


def test_time_that_goes_back_is_refused_and_the_next_is_taken() -> None:
    taker = Taker()
    taker.take(1, time_us=NOW)
    with pytest.raises(SourceError, match=r"found one 1\.5 s before it"):
        taker.take(2, time_us=NOW - 1_500_000)
    (chunk,) = taker.take(3, time_us=NOW + 1)
    assert not chunk.is_start


def test_a_clock_that_was_set_begins_the_stream_anew() -> None:
    taker = Taker()
    taker.take(1, time_us=NOW + 365 * 86_400_000_000)  # forged, or a broken clock
    (chunk,) = taker.take(2, time_us=NOW)
    assert (chunk.is_start, chunk.times_us.tolist()) == (True, [NOW])
    assert taker.tally.account["clock_set"] == 1


def test_our_own_clock_may_go_back_a_little() -> None:
    taker = Taker()
    taker.take(1)
    taker.now_us -= 1_000_000
    (chunk,) = taker.take(2)
    assert (chunk.is_start, chunk.times_us.tolist()) == (False, [NOW])


def test_silence_begins_a_stream_anew_where_that_is_asked() -> None:
    for gap_us, is_start in ((None, False), (10_000_000, True)):
        taker = Taker(gap_us)
        taker.take(1)
        taker.now_us += 10_000_001
        (chunk,) = taker.take(2)
        assert chunk.is_start == is_start


def test_streams_are_apart_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_STREAMS", 2)
    taker = Taker()
    for stream in ("a", "b", "c"):
        (chunk,) = taker.take(1, stream=stream)
        assert chunk.is_start
    (chunk,) = taker.take(1, stream="c")
    assert not chunk.is_start
    (chunk,) = taker.take(1, stream="a")  # the oldest made room
    assert chunk.is_start
