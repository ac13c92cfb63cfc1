# SPDX-License-Identifier: Apache-2.0
"""What a candidate does on validation frames and on this host.

Owns outputs, SQNR and the metric (deterministic, they go into the bundle) and latency
and memory (host figures, they never do). Judges nothing; see ``choose``.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from converter.candidate import Candidate
from converter.config import worker_environment
from converter.errors import ConvertError
from converter.metrics import Comparison, Metric, Truth
from converter.runtimes import Engine, open_engine
from converter.tensors import Float32, Frames, Int64
from edge_contract.golden import EXACT_SQNR_DB, signal_to_noise_db
from edge_contract.steps import apply_post

PostSteps = Sequence[Mapping[str, str]]
ROUNDS: Final = 40
_ROUND_SECONDS: Final = 0.005
_MAX_CALLS: Final = 500
_WARM_UP: Final = 5


@dataclass(frozen=True)
class Quality:
    """A candidate against float on the validation frames.

    Attributes:
        comparison: The metric of both, and the drop with its interval.
        sqnr_db: Of the outputs before post-processing.
    """

    comparison: Comparison
    sqnr_db: float


@dataclass(frozen=True)
class Latency:
    """Time of one inference on this host, over interleaved rounds."""

    median_us: float
    p99_us: float
    calls: int


class Yardstick:
    """What every candidate is compared with: float's outputs on the same frames.

    Args:
        base: The float candidate.
        frames: Validation frames.
        post: Steps from raw outputs to what the metric compares.
        metric: How.
        truth: Labels or targets of the frames, or None.
        clusters: Frames of one cluster are not independent; int64 [n], or None.
    """

    def __init__(
        self,
        base: Candidate,
        frames: Frames,
        *,
        post: PostSteps,
        metric: Metric,
        truth: Truth,
        clusters: Int64 | None,
    ) -> None:
        self.base = base
        self._frames = frames
        self._post = post
        self._metric = metric
        self._truth = truth
        self._clusters = clusters
        self.raw = run_all(base, frames)
        self.outputs = self._processed(self.raw)
        self._known: dict[bytes, Quality] = {}

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self.raw)

    def measure(self, candidate: Candidate) -> Quality:
        """Run a candidate on every frame, once, and compare it with float.

        Raises:
            ConvertError: The runtime or the metric failed.
        """
        if candidate.content not in self._known:
            self._known[candidate.content] = self._measured(candidate)
        return self._known[candidate.content]

    def _measured(self, candidate: Candidate) -> Quality:
        raw = self.raw if candidate is self.base else run_all(candidate, self._frames)
        comparison = self._metric.compare(
            self.outputs, self._processed(raw), self._truth, self._clusters
        )
        return Quality(comparison, signal_to_noise_db(self.raw, raw))

    def _processed(self, raw: Float32) -> Float32:
        return apply_post(self._post, raw.reshape(len(raw), -1))


def run_all(candidate: Candidate, frames: Frames) -> Float32:
    """Return a candidate's raw outputs on ``frames``, float32 [n, ...]."""
    engine = open_engine(candidate.runtime, candidate.content)
    return np.concatenate([engine.run(block) for block in frames])


def sqnr_of(found: Float32, expected: Float32) -> float:
    """Return the SQNR, with outputs that are not finite as no signal at all."""
    if not np.isfinite(found).all():
        return -EXACT_SQNR_DB
    return signal_to_noise_db(expected, found)


def measure_latency(
    candidates: Sequence[Candidate], frames: Float32, *, rounds: int = ROUNDS
) -> dict[str, Latency]:
    """Time every candidate in interleaved rounds, one thread.

    Interleaving lets a change of the machine's speed hit all candidates alike.
    """
    engines = [open_engine(one.runtime, one.content) for one in candidates]
    found = time_in_turns(engines, frames, rounds=rounds)
    return {one.id: each for one, each in zip(candidates, found, strict=True)}


def time_in_turns(
    engines: Sequence[Engine], frames: Float32, *, rounds: int = ROUNDS
) -> list[Latency]:
    """Time loaded models in interleaved rounds; see ``measure_latency``."""
    samples: list[list[float]] = [[] for _ in engines]
    calls = [_calibrate(one, frames) for one in engines]
    for turn in range(rounds):
        for index, engine in enumerate(engines):
            samples[index] += _time_calls(engine, frames, calls[index], turn)
    return [
        Latency(float(np.median(one)), float(np.percentile(one, 99)), len(one))
        for one in samples
    ]


def _calibrate(engine: Engine, frames: Float32) -> int:
    seconds = _time_calls(engine, frames, _WARM_UP, 0)
    typical = max(float(np.median(seconds)) / 1e6, 1e-7)
    return max(1, min(_MAX_CALLS, int(_ROUND_SECONDS / typical)))


def _time_calls(engine: Engine, frames: Float32, calls: int, turn: int) -> list[float]:
    found = []
    for call in range(calls):
        at = (turn * calls + call) % len(frames)
        frame = frames[at : at + 1]
        start = time.perf_counter_ns()
        engine.infer(frame)
        found.append((time.perf_counter_ns() - start) / 1000)
    return found


def measure_ram(candidate: Candidate, input_shape: tuple[int, ...]) -> int:
    """Return the bytes that loading and running ``candidate`` adds to a process.

    Measured in a fresh process, as the growth of its peak resident memory.

    Raises:
        ConvertError: The process failed.
    """
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        path = Path(folder) / "model"
        path.write_bytes(candidate.content)
        done = subprocess.run(  # noqa: S603 - our own module
            [
                sys.executable,
                "-m",
                "converter.runtimes.ram_worker",
                candidate.runtime,
                str(path),
                json.dumps(input_shape),
            ],
            capture_output=True,
            check=False,
            env=worker_environment(),
            text=True,
        )
    if done.returncode:
        msg = f"{candidate.id}: measuring memory failed: {done.stderr.strip()[-200:]}"
        raise ConvertError(msg, next_step="use --objective latency or size")
    return int(done.stdout)
