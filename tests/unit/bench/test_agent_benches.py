# SPDX-License-Identifier: Apache-2.0
"""The parts of the agent's measurements work, and find what they should."""

import os
from pathlib import Path

import numpy as np
import pytest

from bench import (
    agent_footprint,
    agent_loadgen,
    agent_overhead,
    agent_start,
    agent_swap,
)
from bench.harness import agent, process
from tests.support.mqtt_broker import Rumqttd

INPUTS = np.random.default_rng(1).normal(size=(64, 1, 10)).astype(np.float32)


def test_the_overhead_is_stated_beside_the_bare_interpreter(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("overhead")
    rows = agent_overhead.measure(
        "toy", agent.MLP_SOFTMAX, None, list(INPUTS), folder, rounds=3
    )

    assert [one.case for one in rows] == [
        "toy: infer, p50",
        "toy: added to the bare call, p50",
        "toy: infer, p99",
    ]
    assert {one.n for one in rows} == {3}
    assert all(one.baseline for one in rows)
    assert agent_overhead.measure_counting(blocks=2).value > 0


@pytest.mark.slow
def test_swaps_under_load_fail_nothing() -> None:
    rows = agent_swap.measure("toy", agent.MLP, None, 2000)

    assert rows[0].case == "toy: failed requests, 24 swaps, 4 callers"
    assert (rows[0].value, rows[0].holds) == (0.0, True)
    assert rows[0].n >= 2000


@pytest.mark.slow
def test_loadgen_calls_both_scenarios_valid() -> None:
    rows = agent_loadgen.measure("toy", agent.MLP, None, INPUTS, seconds=0.3)

    assert [(one.case, one.holds) for one in rows] == [
        ("toy, SingleStream: VALID (1 is yes)", True),
        ("toy, SingleStream: p90", None),
        ("toy, Offline: VALID (1 is yes)", True),
        ("toy, Offline: rate", None),
    ]
    assert all(one.n >= 64 for one in rows)


def test_memory_is_read_from_what_the_kernel_says() -> None:
    text = """\
55d0-55d1 r-xp 00000000 08:01 131 /usr/lib/libc.so.6
Rss:                2048 kB
Pss:                1024 kB
Pss_Dirty:            99 kB
7f00-7f01 rw-p 00000000 00:00 0
Rss:                 512 kB
Pss:                 256 kB
"""
    assert process.parse_memory(text) == process.Memory(1.25, 2.5, 1.5)
    own = process.read_memory(os.getpid())
    assert 5 < own.pss <= own.alone <= own.rss


@pytest.mark.slow
def test_an_agent_starts_says_so_and_is_weighed(tmp_path: Path) -> None:
    rows = agent_start.measure_ready(runs=1)
    assert [(one.case, one.n, one.asked) for one in rows] == [
        ("process start to READY", 1, "<= 1 s"),
        ("the first time, with the probe of the model", 1, None),
    ]
    assert all(one.value > (one.baseline or 0) > 0 for one in rows)
    assert agent_start.measure_load(runs=1).value > 0

    broker = Rumqttd(tmp_path)
    broker.start()
    try:
        scales = agent_footprint.Scales(broker.port, tmp_path / "compiled")
        (found,) = scales.weigh_agents(None, 1)
    finally:
        broker.stop()
    assert 10 < found.pss <= found.alone <= found.rss


def test_a_summary_without_a_result_is_refused() -> None:
    with pytest.raises(RuntimeError, match="expected a result"):
        agent_loadgen.read_verdict("nothing", 1)
    invalid = agent_loadgen.read_verdict("Result is : INVALID", 3)
    assert invalid == agent_loadgen.Verdict(
        is_valid=False, p90_us=0.0, rate=0.0, queries=3
    )
