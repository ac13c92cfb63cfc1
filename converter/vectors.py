# SPDX-License-Identifier: Apache-2.0
"""Golden vectors: which inputs, which outputs, how far a device may be from them.

Owns the choice of inputs (edge cases, one a class, then evenly from unsure to sure),
outputs of the reference kernels, tolerances by kind, and the check that all kernels of
this host agree within them. The format and comparison are ``edge_contract.golden``.

Static int8 kernels may round differently by two steps. A softmax behind them makes more
of that on unsure inputs (eight steps were seen on real data), so the tolerance is two
steps or, where this host's kernels spread further, twice their spread, up to an eighth
of the output's range.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from converter.candidate import Candidate
from converter.errors import ConvertGoldenError
from converter.parity import edge_frames
from converter.runtimes import kernel_sets, open_engine, reference_set
from converter.tensors import Float32
from edge_contract.golden import (
    GoldenResult,
    GoldenVectors,
    Tolerance,
    compare,
)

MAX_INPUTS: Final = 24
INT8_STEPS: Final = 2
MAX_INT8_STEPS: Final = 32
FLOAT_SQNR_DB: Final = 80.0
FLOAT_MARGIN: Final = 1e-3
_SLACK = 1.001  # a difference of exactly two steps, computed in float32
_CERTAINTY_BITS = 12


@dataclass(frozen=True)
class KernelCheck:
    """How far kernels of this host were from the golden outputs of one variant."""

    kernels: str
    result: GoldenResult


def pick_inputs(frames: Float32, probabilities: Float32) -> Float32:
    """Return up to 24 inputs: edges, the surest of each class, the least sure.

    Certainty is rounded, so that the last bits of an output decide nothing.

    Args:
        frames: float32 [n, ...].
        probabilities: float32 [n, K], the float variant's outputs.
    """
    ordered = np.sort(probabilities.astype(np.float64), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    certainty = np.round(np.ldexp(margin, _CERTAINTY_BITS)).astype(np.int64)
    winners = probabilities.argmax(axis=1)
    edges = edge_frames(frames)
    room = MAX_INPUTS - len(edges)
    picked: list[int] = []
    for label in np.unique(winners):
        own = np.flatnonzero(winners == label)
        picked.append(int(own[certainty[own].argmax()]))
    picked = picked[: room // 2]
    ranked = [one for one in np.argsort(certainty, kind="stable") if one not in picked]
    even = np.linspace(0, len(ranked) - 1, min(len(ranked), room - len(picked)))
    picked += [int(ranked[one]) for one in even.astype(int)]
    return np.concatenate([edges, frames[sorted(set(picked))]])


def make_vectors(
    candidates: Sequence[Candidate], inputs: Float32
) -> tuple[GoldenVectors, dict[str, tuple[KernelCheck, ...]], dict[str, str]]:
    """Return golden vectors of all candidates whose kernels agree.

    Returns:
        The vectors, by variant how far each kernel set was from them, and by refused
        variant the reason.

    Raises:
        ConvertGoldenError: No candidate is left.
    """
    outputs: dict[str, Float32] = {}
    tolerances: dict[str, Tolerance] = {}
    checks: dict[str, tuple[KernelCheck, ...]] = {}
    refused: dict[str, str] = {}
    for one in candidates:
        found = {
            kernels: open_engine(one.runtime, one.content, kernels).run(inputs)
            for kernels in kernel_sets(one.runtime)
        }
        golden = found[reference_set(one.runtime)]
        allowed = tolerance(one, _spread(found, golden))
        results = tuple(
            KernelCheck(kernels, compare(outputs_there, golden, allowed))
            for kernels, outputs_there in found.items()
        )
        wrong = [check for check in results if not check.result.ok]
        if wrong:
            refused[one.id] = _disagreement(one, wrong[0])
            continue
        outputs[one.id], tolerances[one.id] = golden, allowed
        checks[one.id] = results
    if not outputs:
        msg = "; ".join(refused.values())
        raise ConvertGoldenError(
            msg, next_step="check the model for numbers near overflow"
        )
    return GoldenVectors(inputs, outputs, tolerances), checks, refused


def tolerance(candidate: Candidate, spread: float) -> Tolerance:
    """Return how far a device may be.

    Args:
        candidate: The variant.
        spread: The largest difference between this host's kernels.
    """
    if candidate.dtype == "float32":
        return Tolerance("sqnr", FLOAT_SQNR_DB, FLOAT_MARGIN)
    steps = max(float(INT8_STEPS), 2 * spread / candidate.output_step / _SLACK)
    # A power of two, so that hosts with other kernels come to the same tolerance.
    steps = min(float(MAX_INT8_STEPS), 2.0 ** math.ceil(math.log2(steps)))
    limit = steps * candidate.output_step * _SLACK
    return Tolerance("lsb", limit, 2 * limit)


def _spread(found: dict[str, Float32], golden: Float32) -> float:
    return max(float(np.abs(one - golden).max()) for one in found.values())


def _disagreement(candidate: Candidate, check: KernelCheck) -> str:
    result = check.result
    return (
        f"{candidate.id}: {check.kernels} kernels differ from the reference kernels:"
        f" largest difference {result.max_abs:.3g}, {result.sqnr_db:.1f} dB,"
        f" {result.disagreements} other winners"
    )
