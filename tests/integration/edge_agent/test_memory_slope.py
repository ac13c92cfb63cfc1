# SPDX-License-Identifier: Apache-2.0
"""An agent at full rate does not grow; half an hour of it in `make soak`."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from bench.harness.process import read_memory
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
    samples: list[tuple[float, float]] = []
    try:
        home.await_produced(1000)
        time.sleep(WARM_SECONDS)
        before, start = home.read_counter(), time.monotonic()
        assert home.process is not None
        while time.monotonic() < start + SECONDS:
            seconds = time.monotonic() - start
            samples.append((seconds, read_memory(home.process.pid).rss))
            time.sleep(min(1.0, SECONDS / 20))
        produced = home.read_counter() - before
        home.stop()
    finally:
        home.close()

    times, memory = np.array(samples).T
    slope = float(np.polyfit(times, memory, 1)[0])
    with capsys.disabled():
        print(  # noqa: T201 - a soak says what it found
            f"\nmemory: {memory[0]:.1f} to {memory[-1]:.1f} MiB, "
            f"{slope * 60:+.3f} MiB a minute over {times[-1]:.0f} s, "
            f"{produced / times[-1]:.0f} inferences a second"
        )
    assert produced > 1000
    assert slope * SECONDS < MOST_MIB
