# SPDX-License-Identifier: Apache-2.0
"""How fast the agent is there: a process that serves, and a program that imports it.

Promises: from the start of the process to serving at most 1.0 s; `import edge_agent`
and `load` of a bundle at most 0.35 s. The baselines are an interpreter of Python that
does nothing, and one that imports numpy and LiteRT and loads the same file.
"""

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench.harness import agent
from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.process import run_python
from edge_contract.bundle import Bundle
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe, make_bundle

RUNS: Final = 7
PATIENCE_SECONDS: Final = 30.0
_LOAD: Final = """\
import sys, time
start = time.perf_counter()
from edge_agent import load
load(sys.argv[1], allow_unsigned=True)
print(time.perf_counter() - start)
"""
_BARE: Final = """\
import sys, time
start = time.perf_counter()
import numpy
from ai_edge_litert.interpreter import Interpreter
Interpreter(model_path=sys.argv[1], num_threads=1).allocate_tensors()
print(time.perf_counter() - start)
"""


def run() -> Document:
    """Measure both, each beside its baseline."""
    return make_document("agent_start", [*measure_ready(), measure_load()])


def measure_ready(runs: int = RUNS) -> list[Row]:
    """Time an agent from the start of its process until it says READY.

    The first time a model serves on a device, it is tried in a process apart before.
    """
    first: list[float] = []
    again: list[float] = []
    bare: list[float] = []
    for _ in range(runs):
        bare.append(timed(lambda: run_python("")))
        with tempfile.TemporaryDirectory() as scratch:
            home = AgentHome(Path(scratch), rate=1)
            home.enrol()
            home.record()
            home.install(ModelRecipe())
            with contextlib.closing(home):
                for found in (first, again):
                    found.append(timed(partial(start_and_await, home)))
                    home.stop()
    return [
        compare("process start to READY", again, bare, 1.0),
        compare("the first time, with the probe of the model", first, bare, None),
    ]


def measure_load(runs: int = RUNS) -> Row:
    """Time the import of the agent and the load of a bundle."""
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as scratch:
        bundle, file = Path(scratch, "a.bundle"), Path(scratch, "a.tflite")
        make_bundle(bundle, agent.MLP)
        with Bundle.open(bundle) as opened:
            file.write_bytes(opened.read(opened.manifest.variants[0].file))
        for _ in range(runs):
            bare.append(float(run_python(_BARE, str(file))))
            ours.append(float(run_python(_LOAD, str(bundle))))
    return compare("import edge_agent and load a bundle", ours, bare, 0.35)


def start_and_await(home: AgentHome) -> None:
    """Start an agent; return at READY=1, or when its status says that it serves.

    Raises:
        RuntimeError: It did neither for half a minute.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        path = home.folder / "notify"
        path.unlink(missing_ok=True)
        ear.bind(str(path))
        ear.settimeout(0.005)
        home.start(NOTIFY_SOCKET=str(path))
        deadline = time.monotonic() + PATIENCE_SECONDS
        before = home.read_status().get("pid")
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ear.recv(4096):
                    return
            status = home.read_status()
            if status.get("state") == "serving" and status["pid"] != before:
                return
    raise RuntimeError("agent: expected READY=1 within 30 s")


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(case: str, ours: list[float], bare: list[float], most: float | None) -> Row:
    """State a time beside its baseline."""
    value, n, spread = summarise(ours)
    baseline, _, _ = summarise(bare)
    return Row(
        case,
        value,
        "s",
        baseline,
        value / baseline,
        n,
        spread,
        None if most is None else f"<= {most:g} s",
        None if most is None else value <= most,
    )


if __name__ == "__main__":
    write_document(run())
