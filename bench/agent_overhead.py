# SPDX-License-Identifier: Apache-2.0
"""What the agent adds to an inference: checks, ring, latency, counting, softmax.

The baseline is the bare interpreter of the same file (set the input, invoke, get the
output), in rounds that take turns in one process; every call is timed by itself.
Promises: at most 5 us at the median for a model of 10 features, 5 % for MLPerf's person
detector, p99 at most 1.5 times that of the bare interpreter, and statistics of at most
2 us a row.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.harness import agent, models
from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from edge_agent.stats.accumulator import Accumulator, Window
from edge_agent.stats.ring import Ring
from edge_contract.bundle import Bundle
from tests.support.bundles import ModelRecipe, make_bundle, make_profile

ROUNDS: Final = 25
CALLS: Final = 2000
BLOCK: Final = 512
Times = np.ndarray


def run() -> Document:
    """Measure a small network, a person detector, and the counting of rows."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        inputs = np.random.default_rng(1).normal(size=(CALLS, 1, 10))
        given = list(inputs.astype(np.float32))
        rows += measure("10-feature MLP", agent.MLP, None, given, folder)
        rows += measure(
            "MLP, softmax by the agent", agent.MLP_SOFTMAX, None, given, folder
        )
        if models.are_here():
            frames = list(models.person_frames(16, seed=2)[:, np.newaxis]) * 25
            content = agent.person_model()
            rows += measure("VWW int8", agent.PERSON, content, frames, folder)
    rows.append(measure_counting())
    return make_document("agent_overhead", rows)


def measure(
    name: str,
    recipe: ModelRecipe,
    content: bytes | None,
    inputs: list[agent.Float32],
    folder: Path,
    rounds: int = ROUNDS,
) -> list[Row]:
    """Compare one model's session with the bare interpreter of its file."""
    path = folder / f"{recipe.name}.bundle"
    make_bundle(path, recipe, model=content)
    with Bundle.open(path) as bundle:
        bare = agent.Bare(bundle.read(bundle.manifest.variants[0].file))
    state = folder / recipe.name
    state.mkdir()
    with agent.serving(path, state) as serving:
        session, expected = serving.session, rounds * len(inputs)

        def observed(frame: agent.Float32) -> object:
            return session.infer(frame, "r").output

        pairs = [
            (time_calls(bare.infer, inputs), time_calls(observed, inputs))
            for _ in range(rounds)
        ]
        serving.keeper.flush()
        counted = serving.session.finite
    if counted != expected:
        msg = f"{name}: expected {expected} inferences, found {counted}"
        raise RuntimeError(msg)
    return [*compare_medians(name, pairs), compare_tails(name, pairs)]


def time_calls(
    call: Callable[[agent.Float32], object], inputs: list[agent.Float32]
) -> Times:
    """Return what each call took, in microseconds, float64 [n]."""
    found = np.empty(len(inputs))
    clock = time.perf_counter_ns
    for index, one in enumerate(inputs):
        start = clock()
        call(one)
        found[index] = clock() - start
    return found / 1000


def compare_medians(name: str, pairs: list[tuple[Times, Times]]) -> list[Row]:
    """State what the median call takes and how much of that is ours."""
    bare = [float(np.median(one)) for one, _ in pairs]
    ours = [float(np.median(one)) for _, one in pairs]
    baseline, _, _ = summarise(bare)
    value, n, spread = summarise(ours)
    added, _, added_spread = summarise([b - a for a, b in zip(bare, ours, strict=True)])
    is_small = baseline < 100
    share = added / baseline
    return [
        Row(
            f"{name}: infer, p50",
            value,
            "us",
            baseline,
            value / baseline,
            n,
            spread,
            None if is_small else "<= 1.05",
            None if is_small else share <= 0.05,
        ),
        Row(
            f"{name}: added to the bare call, p50",
            added,
            "us",
            baseline,
            share,
            n,
            added_spread,
            "<= 5 us" if is_small else None,
            added <= 5 if is_small else None,
        ),
    ]


def compare_tails(name: str, pairs: list[tuple[Times, Times]]) -> Row:
    """State the 99th percentile; the ratio is the median over the rounds."""
    bare = [float(np.percentile(one, 99)) for one, _ in pairs]
    ours = [float(np.percentile(one, 99)) for _, one in pairs]
    value, n, spread = summarise(ours)
    ratio, _, _ = summarise([b / a for a, b in zip(bare, ours, strict=True)])
    baseline, _, _ = summarise(bare)
    return Row(
        f"{name}: infer, p99",
        value,
        "us",
        baseline,
        ratio,
        n,
        spread,
        "<= 1.5",
        ratio <= 1.5,
    )


def measure_counting(blocks: int = 5 * ROUNDS) -> Row:
    """State what counting a block costs, a row of 10 features and its output."""
    profile = make_profile(agent.MLP)
    random = np.random.default_rng(3)
    rows = random.normal(size=(BLOCK, 1, 10)).astype(np.float32)
    outputs = random.dirichlet(np.ones(7), size=BLOCK).astype(np.float32)
    closed: list[Window] = []
    accumulator = Accumulator(profile, bytes(8), 300_000_000, closed.append)
    ring = Ring(1, 10, 7)
    found = []
    for number in range(blocks):
        for index in range(BLOCK):
            at_us = number * BLOCK + index
            ring.held.append(("s", False, rows[index], at_us, outputs[index], 5000))
        start = time.perf_counter_ns()
        block = ring.take()
        if block is not None:
            accumulator.add(block)
        found.append((time.perf_counter_ns() - start) / 1000 / BLOCK)
    value, n, spread = summarise(found)
    return Row(
        "statistics, a row of 10 features",
        value,
        "us",
        n=n,
        spread=spread,
        asked="<= 2 us",
        holds=value <= 2,
    )


if __name__ == "__main__":
    write_document(run())
