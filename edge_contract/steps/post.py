# SPDX-License-Identifier: Apache-2.0
"""Steps from a model's raw output to class probabilities.

A step is a JSON object with its name under ``step`` and its numbers as decimal
strings. Unknown steps are refused, never skipped.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError

Float32 = NDArray[np.float32]
StepSpec = Mapping[str, str]
PostStep = Callable[[Float32], Float32]
_FEW = 64
_SAFE = 80.0
_ONES = np.ones(_FEW, dtype=np.float32)


def softmax(logits: Float32) -> Float32:
    """Turn logits (float32 [n, K], or [K]) into probabilities.

    >>> softmax(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    # One row on a device, where each call into numpy counts: where exp can neither
    # overflow nor vanish, there is nothing to shift.
    if logits.ndim == 1 and logits.size <= _FEW and _is_tame(logits):
        powers: Float32 = np.exp(logits)
        powers /= powers.dot(_ONES[: powers.size])
        return powers
    with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, no warning
        exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Float32 = exponent / exponent.sum(axis=-1, keepdims=True)
    return result


def _is_tame(logits: Float32) -> bool:
    return bool(-_SAFE < max(logits.tolist()) < _SAFE)


def sigmoid_pair(logits: Float32) -> Float32:
    """Turn one logit (float32 [n, 1]) into the probabilities of two classes."""
    positive = 1 / (1 + np.exp(-logits))
    result: Float32 = np.concatenate((1 - positive, positive), axis=-1)
    return result


def pair(probability: Float32) -> Float32:
    """Turn one probability (float32 [n, 1]) into those of two classes.

    >>> pair(np.array([[0.25]], np.float32)).tolist()
    [[0.75, 0.25]]
    """
    result: Float32 = np.concatenate((1 - probability, probability), axis=-1)
    return result


_POST: dict[str, PostStep] = {
    "pair": pair,
    "softmax": softmax,
    "sigmoid_pair": sigmoid_pair,
}


def check_post(steps: Sequence[StepSpec]) -> None:
    """Refuse steps that this version does not know.

    Raises:
        StepError: A step is unknown or has unknown parameters.
    """
    for step in steps:
        if step.get("step") not in _POST or set(step) != {"step"}:
            msg = f"post-processing: expected one of {sorted(_POST)}, found {step!r}"
            raise StepError(msg, next_step="update this program")


def apply_post(steps: Sequence[StepSpec], outputs: Float32) -> Float32:
    """Apply checked ``steps`` to raw outputs, float32 [n, K], or one of them, [K]."""
    for step in compile_post(steps):
        outputs = step(outputs)
    return outputs


def compile_post(steps: Sequence[StepSpec]) -> tuple[PostStep, ...]:
    """Return checked ``steps`` as functions, to be applied one after the other."""
    return tuple(_POST[step["step"]] for step in steps)
