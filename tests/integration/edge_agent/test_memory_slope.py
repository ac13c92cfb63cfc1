# SPDX-License-Identifier: Apache-2.0
"""An agent at full rate does not grow; half an hour of it in `make soak`."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from bench.harness.process import Memory, read_memory
from edge_contract.binning import Float64
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe

IS_SOAK = "EDGELOOP_SOAK" in os.environ  # noqa: TID251 - larger numbers, see Makefile
SECONDS = 1800.0 if IS_SOAK else 8.0
WARM_SECONDS = 120.0 if IS_SOAK else 4.0
# What a slope may add up to: the allocator's own unrest, and no window's worth of rows.
MOST_MIB = 2.0 if IS_SOAK else 8.0


@pytest.mark.slow
def test_memory_at_full_rate_does_not_grow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = AgentHome(tmp_path, checkpoint="10s")
    text = home.config.read_text()
    home.config.write_text(
        text.replace("window: 64ms", "window: 5m").replace(
            "    sinks: [{type: file, path: results.jsonl}]\n", ""
        )
    )
    home.enrol()
    home.record(rows=4000)
    home.install(ModelRecipe())
    home.start()
    samples: list[tuple[float, Memory]] = []
    try:
        home.await_produced(1000)
        time.sleep(WARM_SECONDS)
        before, start = home.read_counter(), time.monotonic()
        assert home.process is not None
        while time.monotonic() < start + SECONDS:
            seconds = time.monotonic() - start
            samples.append((seconds, read_memory(home.process.pid)))
            time.sleep(min(1.0, SECONDS / 20))
        produced = home.read_counter() - before
        home.stop()
    finally:
        home.close()

    times = np.array([seconds for seconds, _ in samples])
    pss = np.array([memory.pss for _, memory in samples])
    # PSS moves with every other program of Python that starts or ends; this does not.
    alone = np.array([memory.alone for _, memory in samples])
    slope = float(np.polyfit(times, alone, 1)[0])
    with capsys.disabled():
        print(  # noqa: T201 - a soak says what it found
            f"\n{produced / times[-1]:.0f} inferences a second for {times[-1]:.0f} s; "
            f"PSS {describe(times, pss)}; as the only program {describe(times, alone)}"
        )
    assert produced > 1000
    assert slope * SECONDS < MOST_MIB


def describe(times: Float64, memory: Float64) -> str:
    """Return where a memory (MiB at ``times`` in seconds) began, ended and leads."""
    slope = float(np.polyfit(times, memory, 1)[0]) * 60
    return f"{memory[0]:.2f} to {memory[-1]:.2f} MiB, {slope:+.4f} MiB a minute"
