# SPDX-License-Identifier: Apache-2.0
"""The agent on emulated ARM beside this machine: start, memory, time of an inference.

Every figure of a userland (scripts/arm) is an emulator's: it says that something runs
and what it costs relatively, never how fast a device is. PSS holds the emulator and its
translated code. The baseline is the same program on this machine, in turn with it.
Nothing is promised.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
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
from edge_contract.manifest import Runtime
from tests.conftest import find_userlands
from tests.support.arm_userland import Userland, refresh
from tests.support.bundles import make_bundle

ROUNDS: Final = 5
PATIENCE_SECONDS: Final = 120.0
CASES: Final[tuple[tuple[str, Runtime, Runtime], ...]] = (
    ("arm64", "litert", "litert"),
    ("arm64", "onnxruntime", "onnxruntime"),
    ("armhf", "tflite-runtime", "litert"),
)
ABSENT: Final = "no emulated userlands: scripts/arm make arm64 armhf"
_MIB: Final = 1024
# Loads a bundle, and prints [µs of the median inference, PSS in KiB] when done.
_PROGRAM: Final = """
import json, re, statistics, sys, time
import numpy as np
from edge_agent import load
model = load(sys.argv[1], allow_unsigned=True)
frame = np.zeros(model.manifest.input.shape, dtype=np.float32)
model.infer(frame)
print("ready", flush=True)
times = []
for _ in range(500):
    begin = time.perf_counter()
    model.infer(frame)
    times.append(time.perf_counter() - begin)
with open("/proc/self/smaps_rollup") as stream:
    pss = re.search(r"^Pss:\\s+(\\d+)", stream.read(), re.M)[1]
print(json.dumps([statistics.median(times) * 1e6, int(pss)]))
"""


def run() -> Document:
    """Measure each runtime in its userland, in turn with this machine's own."""
    if find_userlands() is None:
        return make_document("agent_arm", [Row(ABSENT, 0.0, "-")])
    refresh()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for arch, runtime, here in CASES:
            bundles = []
            for number, one in enumerate((runtime, here)):
                bundles.append(Path(scratch) / f"{number}.bundle")
                make_bundle(bundles[-1], replace(agent.MLP, hidden=(), runtime=one))
            rows += measure(arch, runtime, *bundles)
    return make_document("agent_arm", rows)


def measure(arch: str, runtime: str, there: Path, here: Path) -> list[Row]:
    """Run both programs in turn; a row a figure."""
    emulated = Userland(arch).command("python3", "-c", _PROGRAM, str(there))
    native = (sys.executable, "-c", _PROGRAM, str(here))
    found: list[tuple[float, float, float]] = []
    baseline: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS):
        found.append(start(emulated))
        baseline.append(start(native))
    rows = []
    figures = (("start to first inference", "s"), ("inference", "us"), ("PSS", "MiB"))
    for index, (figure, unit) in enumerate(figures):
        value, n, spread = summarise([one[index] for one in found])
        other, _, _ = summarise([one[index] for one in baseline])
        case = f"{figure}, {arch} {runtime}, emulated"
        rows.append(Row(case, value, unit, other, value / other, n, spread))
    return rows


def start(command: Sequence[str]) -> tuple[float, float, float]:
    """Return seconds to the first inference, us of the median one, and PSS in MiB.

    Raises:
        RuntimeError: It ended before its time, or had to be ended after two minutes.
    """
    begin = time.monotonic()
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        end = threading.Timer(PATIENCE_SECONDS, process.kill)
        end.start()
        try:
            word, seconds = process.stdout.readline(), time.monotonic() - begin
            found = process.stdout.readline()
        finally:
            end.cancel()
    if word != "ready\n" or not found:
        msg = f"{command[0]}: no inference in {time.monotonic() - begin:.0f} s"
        raise RuntimeError(msg)
    micros, kibibytes = json.loads(found)
    return seconds, micros, kibibytes / _MIB


if __name__ == "__main__":
    write_document(run())
