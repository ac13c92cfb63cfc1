# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: which inputs, which outputs, how far a device may be from them.

Owns the choice of inputs (edge cases, one a class, then evenly from unsure to sure),
outputs of the reference kernels, tolerances by kind, and the check that all kernels of
this host agree within them. The format and comparison are ``edge_contract.golden``.

A static int8 output may be two steps off. Anything else is bounded by its SQNR: 80 dB
for float, and for arithmetic that scales as it runs what this host's kernels reach,
less 3 dB, on a grid of 3 dB so that hosts come to the same tolerance.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from converter.candidate import Candidate
from converter.parity import edge_frames
from converter.runtimes import kernel_sets, open_engine, reference_set
from converter.tensors import Float32, Frames
from edge_contract.golden import GoldenResult, Tolerance, compare

MAX_INPUTS: Final = 24
INT8_STEPS: Final = 2
FLOAT_SQNR_DB: Final = 80.0
LEAST_SQNR_DB: Final = 15.0
FLOAT_MARGIN: Final = 1e-3
_GRID_DB: Final = 3.0
_SLACK = 1.001  # a difference of exactly two steps, computed in float32
_CERTAINTY_BITS = 12


@dataclass(frozen=True)
class KernelCheck:
    """How far kernels of this host were from the golden outputs of one variant."""

    kernels: str
    result: GoldenResult


@dataclass(frozen=True, eq=False)
class Checked:
    """A candidate's golden outputs and this host's kernels against them.

    Attributes:
        golden: float32 [n, ...], of the reference kernels.
        tolerance: How far a device may be.
        checks: One a kernel set.
        refusal: Why the candidate must not be used; empty where all agree.
    """

    golden: Float32
    tolerance: Tolerance
    checks: tuple[KernelCheck, ...]
    refusal: str


def pick_inputs(frames: Frames, outputs: Float32) -> Float32:
    """Return up to 24 inputs: edges, the surest of each class, the least sure.

    Certainty is rounded, so that the last bits of an output decide nothing.

    Args:
        frames: Validation frames.
        outputs: float32 [n, K], the float variant's outputs after post-processing.
    """
    certainty = np.round(np.ldexp(_margins(outputs), _CERTAINTY_BITS)).astype(np.int64)
    winners = outputs.argmax(axis=1)
    edges = edge_frames(frames)
    room = MAX_INPUTS - len(edges)
    picked: list[int] = []
    for label in np.unique(winners)[: room // 2]:
        own = np.flatnonzero(winners == label)
        picked.append(int(own[certainty[own].argmax()]))
    ranked = [one for one in np.argsort(certainty, kind="stable") if one not in picked]
    even = np.linspace(0, len(ranked) - 1, min(len(ranked), room - len(picked)))
    picked += [int(ranked[one]) for one in even.astype(int)]
    return np.concatenate([edges, frames.take(np.array(sorted(set(picked))))])


def _margins(outputs: Float32) -> np.ndarray:
    if outputs.shape[1] < 2:
        return np.abs(outputs[:, 0].astype(np.float64))
    ordered = np.partition(outputs.astype(np.float64), -2, axis=1)
    margins: np.ndarray = ordered[:, -1] - ordered[:, -2]
    return margins


def check(
    candidate: Candidate, inputs: Float32, *, compares_winners: bool = True
) -> Checked:
    """Run ``inputs`` on every kernel set and compare with the reference kernels.

    Args:
        candidate: The variant.
        inputs: float32 [n, ...].
        compares_winners: Whether the largest output means something.
    """
    found = {
        kernels: open_engine(candidate.runtime, candidate.content, kernels).run(inputs)
        for kernels in kernel_sets(candidate.runtime)
    }
    golden = found[reference_set(candidate.runtime)]
    allowed = tolerance(candidate, found, golden)
    if not compares_winners:
        allowed = Tolerance(allowed.kind, allowed.limit, math.inf)
    checks = tuple(
        KernelCheck(kernels, compare(outputs, golden, allowed))
        for kernels, outputs in found.items()
    )
    wrong = [one for one in checks if not one.result.ok]
    refusal = _disagreement(candidate, wrong[0]) if wrong else ""
    return Checked(golden, allowed, checks, refusal)


def tolerance(
    candidate: Candidate, found: dict[str, Float32], golden: Float32
) -> Tolerance:
    """Return how far a device may be.

    Args:
        candidate: The variant.
        found: Outputs by kernel set of this host.
        golden: The reference kernels' outputs.
    """
    if candidate.output_step and not candidate.float_operators:
        limit = INT8_STEPS * candidate.output_step * _SLACK
        return Tolerance("lsb", limit, 2 * limit)
    if candidate.dtype == "float32":
        return Tolerance("sqnr", FLOAT_SQNR_DB, FLOAT_MARGIN)
    worst = min(
        compare(one, golden, Tolerance("sqnr", 0.0, math.inf)).sqnr_db
        for one in found.values()
    )
    reached = math.floor((min(worst, FLOAT_SQNR_DB) - _GRID_DB) / _GRID_DB) * _GRID_DB
    limit = max(reached, LEAST_SQNR_DB)
    spread = float(np.abs(golden).max()) * 10 ** (-limit / 20)
    return Tolerance("sqnr", limit, 2 * spread)


def _disagreement(candidate: Candidate, found: KernelCheck) -> str:
    result = found.result
    return (
        f"{candidate.id}: {found.kernels} kernels differ from the reference kernels:"
        f" largest difference {result.max_abs:.3g}, {result.sqnr_db:.1f} dB,"
        f" {result.disagreements} other winners"
    )
