# SPDX-License-Identifier: Apache-2.0
"""MLPerf LoadGen as the judge of the agent's latency and throughput.

The agent's session is the system under test, everything observed; then the bare
interpreter of the same file is, under the same settings. LoadGen decides whether a run
is VALID: its minimum duration is scaled down from 600 s, which it accepts.
"""

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlperf_loadgen as loadgen
import numpy as np

from bench.harness import agent, models
from bench.harness.document import Document, Row, make_document, write_document
from edge_contract.bundle import Bundle
from tests.support.bundles import ModelRecipe, make_bundle

SECONDS: Final = 8.0
SAMPLES: Final = 64
RESERVE: Final = 8.0  # the first inferences are slower than those that follow
_VALID: Final = re.compile(r"Result is *: *(\w+)")
_P90: Final = re.compile(r"90\.?0* percentile latency \(ns\) *: *(\d+)")
_RATE: Final = re.compile(r"Samples per second *: *([\d.]+)")
Infer = Callable[[agent.Float32], Any]


@dataclass(frozen=True)
class Verdict:
    """What LoadGen says of a run.

    Attributes:
        is_valid: Whether it accepts it.
        p90_us: The 90th percentile of SingleStream's latency; 0 for Offline.
        rate: Offline's samples a second; 0 for SingleStream.
        queries: How many it judged.
    """

    is_valid: bool
    p90_us: float
    rate: float
    queries: int


def run() -> Document:
    """Judge a small network, and the person detector where it is at hand."""
    inputs = np.random.default_rng(1).normal(size=(SAMPLES, 1, 10))
    rows = measure("10-feature MLP", agent.MLP, None, inputs.astype(np.float32))
    if models.are_here():
        frames = models.person_frames(SAMPLES, seed=2)[:, np.newaxis]
        rows += measure("VWW int8", agent.PERSON, agent.person_model(), frames)
    return make_document("agent_loadgen", rows)


def measure(
    name: str,
    recipe: ModelRecipe,
    content: bytes | None,
    inputs: agent.Float32,
    seconds: float = SECONDS,
) -> list[Row]:
    """Have the session and the bare interpreter judged, in both scenarios."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / "a.bundle"
        make_bundle(path, recipe, model=content)
        with Bundle.open(path) as bundle:
            bare = agent.Bare(bundle.read(bundle.manifest.variants[0].file))
        with agent.serving(path, folder) as serving:

            def observed(frame: agent.Float32) -> Any:
                return serving.session.infer(frame, "loadgen").output

            for scenario in ("SingleStream", "Offline"):
                ours = judge(scenario, observed, inputs, folder, seconds)
                other = judge(scenario, bare.infer, inputs, folder, seconds)
                rows += state(f"{name}, {scenario}", ours, other)
    return rows


def judge(
    scenario: str, infer: Infer, inputs: agent.Float32, folder: Path, seconds: float
) -> Verdict:
    """Run LoadGen once and read its summary."""
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1000)
    settings.min_query_count = 1
    # LoadGen makes its queries beforehand, as many as these say.
    rate = expected_rate(infer, inputs)
    # Offline is one long query: what ends before the minimal time is not VALID.
    settings.offline_expected_qps = RESERVE * rate
    settings.single_stream_expected_latency_ns = int(1e9 / (RESERVE * rate))
    counted = 0

    def issue(samples: Sequence[Any]) -> None:
        nonlocal counted
        for one in samples:
            infer(inputs[one.index])
            counted += 1
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(one.id, 0, 0)])

    log = loadgen.LogSettings()
    log.log_output.outdir = str(folder)
    log.enable_trace = False
    under_test = loadgen.ConstructSUT(issue, do_nothing)
    library = loadgen.ConstructQSL(len(inputs), len(inputs), ignore, ignore)
    try:
        loadgen.StartTestWithLogSettings(under_test, library, settings, log)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(under_test)
    return read_verdict((folder / "mlperf_log_summary.txt").read_text(), counted)


def read_verdict(summary: str, queries: int) -> Verdict:
    """Return what a summary of LoadGen says.

    Raises:
        RuntimeError: It says nothing.
    """
    valid = _VALID.search(summary)
    if valid is None:
        raise RuntimeError(f"LoadGen: expected a result, found {summary[:200]!r}")
    p90, rate = _P90.search(summary), _RATE.search(summary)
    return Verdict(
        valid.group(1) == "VALID",
        0.0 if p90 is None else int(p90.group(1)) / 1000,
        0.0 if rate is None else float(rate.group(1)),
        queries,
    )


def state(name: str, ours: Verdict, other: Verdict) -> list[Row]:
    """Return the rows of one scenario."""
    both = ours.is_valid and other.is_valid
    verdict = Row(
        f"{name}: VALID (1 is yes)",
        float(ours.is_valid),
        "-",
        float(other.is_valid),
        n=ours.queries,
        asked="VALID",
        holds=both,
    )
    if ours.rate:
        ratio = ours.rate / other.rate
        rate = Row(f"{name}: rate", ours.rate, "1/s", other.rate, ratio, ours.queries)
        return [verdict, rate]
    ratio = ours.p90_us / other.p90_us
    p90 = Row(f"{name}: p90", ours.p90_us, "us", other.p90_us, ratio, ours.queries)
    return [verdict, p90]


def expected_rate(infer: Infer, inputs: agent.Float32) -> float:
    """Return about how many inferences a second there are: LoadGen sizes its query."""
    start = time.perf_counter()
    for one in inputs:
        infer(one)
    return len(inputs) / (time.perf_counter() - start)


def do_nothing() -> None:
    """Flush: each query is answered before the next."""


def ignore(samples: Sequence[int]) -> None:
    """Load or unload samples: they are all in memory."""
    del samples


if __name__ == "__main__":
    write_document(run())
