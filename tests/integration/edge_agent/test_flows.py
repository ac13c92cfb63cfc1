# SPDX-License-Identifier: Apache-2.0
"""The real agent between pipes: rows in, results out, and neighbours that fail."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_home import ROOT, AgentHome, await_value, program
from tests.support.bundles import ModelRecipe
from tests.support.sinks import Hook

VECTOR = ModelRecipe(observe="vector")
ROWS = 40


@pytest.fixture
def home(tmp_path: Path) -> Iterator[AgentHome]:
    home = AgentHome(tmp_path)
    home.enrol()
    home.record()
    home.install(VECTOR)
    yield home
    agent = home.process
    home.close()
    for pipe in () if agent is None else (agent.stdin, agent.stdout, agent.stderr):
        if pipe is not None:
            pipe.close()


def slot_status(home: AgentHome) -> dict[str, Any]:
    """What the status says of the one slot."""
    found: dict[str, Any] = home.read_status().get("slots", {}).get("main", {})
    return found


def start(home: AgentHome, slot: str) -> subprocess.Popen[bytes]:
    """Start the agent between two pipes."""
    home.config.write_text(
        f"state_dir: state\nmodels:\n  main:\n{slot}"
        "statistics: {window: 1s, checkpoint: 50ms}\n"
    )
    home.process = subprocess.Popen(
        [*program(), "run", "--config", str(home.config)],
        cwd=home.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return home.process


@pytest.mark.slow
def test_rows_come_in_and_results_go_out_through_pipes(home: AgentHome) -> None:
    agent = start(
        home,
        "    source: {type: stdin, format: csv}\n"
        "    sinks: [{type: stdout}, {type: sqlite, path: results.sqlite}]\n",
    )
    lines = ["id,ax,ay", *(f"n{number},{number / 10},1" for number in range(ROWS))]
    lines.insert(5, "nonsense")
    lines.insert(9, "n,,not a number")
    out, log = agent.communicate("\n".join(lines).encode(), timeout=60)

    assert agent.returncode == 0, log.decode()[-2000:]
    results = [json.loads(line) for line in out.splitlines()]
    assert [one["id"] for one in results] == [f"n{number}" for number in range(ROWS)]
    assert all(one["label"] in VECTOR.labels for one in results)
    status = slot_status(home)
    assert status["produced"] == ROWS
    assert status["source"]["refused"] == 2
    assert status["source"]["taken"] == ROWS
    assert log.count(b"source stdin: ") == 1


@pytest.mark.slow
def test_sinks_that_block_never_stop_inference(home: AgentHome) -> None:
    hook = Hook(is_hung=True)
    agent = start(
        home,
        "    source: {type: file, path: source.npz, rate: 0, sample_rate_hz: 1000}\n"
        "    sinks:\n"
        "    - {type: stdout, queue: 100}\n"
        f"    - {{type: webhook, url: '{hook.url}', queue: 100}}\n"
        "    - {type: file, path: /dev/full, queue: 100}\n"
        "    - {type: file, path: results.jsonl}\n",
    )
    failed = ("stdout.dropped", "webhook.dropped", "file.dropped", "file.failures")

    def all_fail(status: dict[str, dict[str, int]]) -> bool:
        sinks = status.get("sinks", {})
        return all(sinks.get(name, 0) > 0 for name in failed)

    await_value(lambda: slot_status(home), all_fail)  # nobody reads standard output
    before = home.read_counter()
    home.await_produced(before + 500)
    agent.send_signal(signal.SIGTERM)
    _, log = agent.communicate(timeout=60)
    hook.close()

    assert agent.returncode == 0, log.decode()[-2000:]
    status = slot_status(home)
    written = len(home.read_results())
    assert status["source_error"] == ""
    # All that was produced reached the sink that works.
    assert written == status["produced"] == home.read_counter()
