# SPDX-License-Identifier: Apache-2.0
"""What windows tell of a shadow: each comparison once."""

import copy
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.stats.checkpoint import ProducedCounter
from edge_agent.stats.comparison import Comparison
from edge_contract.evidence import Shadow
from edge_contract.window_report import WindowReport
from tests.support.agent_doubles import MemoryLedger, Observation
from tests.support.keepers import GRID, RELEASE, WINDOW_US, make_keeper, record
from tests.support.small_profile import small_profile

FIRST, SECOND = b"shadow-1", b"shadow-2"


def test_differences_add_up_and_another_shadow_begins_anew() -> None:
    comparison = Comparison()
    tallies = [
        None,
        Shadow(FIRST, 0, 0),
        Shadow(FIRST, 5, 1),
        Shadow(FIRST, 5, 1),
        Shadow(FIRST, 9, 4),
        Shadow(SECOND, 3, 0),
        Shadow(SECOND, 2, 2),  # it was started anew
        None,
        Shadow(SECOND, 4, 2),
    ]
    found = []
    for one in tallies:
        comparison.tally = partial(copy.copy, one)
        found.append(comparison.take())

    assert found == [
        None,
        Shadow(FIRST, 0, 0),
        Shadow(FIRST, 5, 1),
        Shadow(FIRST, 0, 0),
        Shadow(FIRST, 4, 3),
        Shadow(SECOND, 3, 0),
        Shadow(SECOND, 2, 2),
        None,
        Shadow(SECOND, 4, 2),
    ]


def test_a_disagreement_that_is_read_ahead_of_its_comparison_is_no_more() -> None:
    comparison = Comparison()
    comparison.tally = lambda: Shadow(FIRST, 5, 1)
    comparison.take()
    comparison.tally = lambda: Shadow(FIRST, 6, 3)

    assert comparison.take() == Shadow(FIRST, 1, 1)


def test_each_window_tells_what_was_compared_while_it_was_open(
    tmp_path: Path,
) -> None:
    ledger, counter = MemoryLedger(), ProducedCounter(tmp_path / "produced.counter")
    keeper = make_keeper(ledger, counter)
    keeper.prepare(small_profile(), RELEASE, GRID)()
    tally = Shadow(FIRST, 0, 0)
    keeper.comparison.tally = lambda: tally
    rows, output = np.zeros((4, 2), np.float32), np.array([1, 0, 0], np.float32)
    for number in range(4):
        times = np.full(4, number * WINDOW_US, dtype=np.int64)
        record(keeper, Observation("a", number == 0, rows, times, output, 1))
        keeper.flush()
        tally = Shadow(FIRST, (number + 1) * 10, number)

    told = [WindowReport.decode(one.encode()).shadow for one in ledger.reports]
    assert told == [Shadow(FIRST, 10, 0), Shadow(FIRST, 10, 1), Shadow(FIRST, 10, 1)]
