# SPDX-License-Identifier: Apache-2.0
"""Keepers over a ledger in memory, for frames of 8 rows of 2 values every 4 rows."""

from edge_agent.flow import Grid
from edge_agent.stats.checkpoint import ProducedCounter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from tests.support.agent_doubles import ManualClock, MemoryLedger, Observation

WINDOW_US = 64_000
GRID = Grid(8, 4, 2)
RELEASE = b"release1" + bytes(24)


def make_keeper(
    ledger: MemoryLedger, counter: ProducedCounter, window_us: int = WINDOW_US
) -> StatisticsKeeper:
    """Return a keeper that makes its open window durable every 10 s."""
    periods = Periods(window_us, 10_000_000)
    return StatisticsKeeper(ledger, counter, ManualClock(), periods)


def record(keeper: StatisticsKeeper, one: Observation) -> None:
    """Record one inference, as a session does."""
    keeper.record(
        one.stream, one.is_start, one.rows, one.times_us, one.output, one.latency_ns
    )
