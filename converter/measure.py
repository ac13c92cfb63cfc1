# SPDX-License-Identifier: Apache-2.0
"""What a candidate does on validation frames and on this host.

Owns accuracy (deterministic, it goes into the bundle) and latency and memory (host
figures, they never do). Judges nothing; see ``choose``.
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
from numpy.typing import NDArray

from converter.candidate import Candidate
from converter.choose import Paired
from converter.config import worker_environment
from converter.errors import ConvertError
from converter.runtimes import Engine, open_engine
from converter.tensors import Float32
from edge_contract.golden import signal_to_noise_db
from edge_contract.steps import apply_post

Int64 = NDArray[np.int64]
PostSteps = Sequence[Mapping[str, str]]
ROUNDS: Final = 40
_ROUND_SECONDS: Final = 0.01
_MAX_CALLS: Final = 500
_WARM_UP: Final = 5


@dataclass(frozen=True, eq=False)
class Quality:
    """Outputs on the validation frames.

    Attributes:
        probabilities: float32 [n, K], after the post steps.
        correct: bool [n]; agreement with float where there are no labels.
        accuracy: Share of ``correct``.
        sqnr_db: Against the float candidate's raw outputs.
    """

    probabilities: Float32
    correct: NDArray[np.bool_]
    accuracy: float
    sqnr_db: float


@dataclass(frozen=True)
class Latency:
    """Time of one inference on this host, over interleaved rounds."""

    median_us: float
    p99_us: float
    calls: int


def measure_quality(
    candidates: Sequence[Candidate],
    frames: Float32,
    labels: Int64 | None,
    post: PostSteps,
) -> dict[str, Quality]:
    """Run every candidate on ``frames``; the first candidate is float.

    Args:
        candidates: What to run.
        frames: float32 [n, ...].
        labels: int64 [n], or None for agreement with float.
        post: Steps from raw outputs to probabilities.
    """
    found: dict[str, Quality] = {}
    base: Float32 | None = None
    target = labels
    for one in candidates:
        raw = open_engine(one.runtime, one.content).run(frames)
        base = raw if base is None else base
        probabilities = apply_post(post, raw)
        winners = probabilities.argmax(axis=1)
        target = winners if target is None else target
        correct = winners == target
        found[one.id] = Quality(
            probabilities,
            correct,
            float(correct.mean()),
            signal_to_noise_db(base, raw),
        )
    return found


def paired(base: Quality, other: Quality) -> Paired:
    """Return how ``other`` differs from ``base`` on the same frames."""
    return Paired(
        worse=int((base.correct & ~other.correct).sum()),
        better=int((~base.correct & other.correct).sum()),
        samples=len(base.correct),
    )


def measure_latency(
    candidates: Sequence[Candidate], frames: Float32
) -> dict[str, Latency]:
    """Time every candidate in interleaved rounds, one thread.

    Interleaving lets a change of the machine's speed hit all candidates alike.
    """
    engines = {one.id: open_engine(one.runtime, one.content) for one in candidates}
    samples: dict[str, list[float]] = {name: [] for name in engines}
    calls = {name: _calibrate(one, frames) for name, one in engines.items()}
    for turn in range(ROUNDS):
        for name, engine in engines.items():
            samples[name] += _time_calls(engine, frames, calls[name], turn)
    return {
        name: Latency(float(np.median(one)), float(np.percentile(one, 99)), len(one))
        for name, one in samples.items()
    }


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
        path = Path(folder) / "model.tflite"
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
