# SPDX-License-Identifier: Apache-2.0
"""Steps from a model's raw output to class probabilities, which are observed.

A step is a JSON object with its name under ``step`` and its numbers as decimal
strings. Unknown steps are refused, never skipped. What may follow in the same list,
after observation, is in ``decide``.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from edge_contract.steps.decide import PLACE, DecisionRule
from edge_contract.steps.parameters import Parameters, StepSpec

Float32 = NDArray[np.float32]
PostStep = Callable[[Float32], Float32]
_FEW = 64
_SAFE = 80.0
_ONES = [np.ones(size, dtype=np.float32) for size in range(_FEW + 1)]


def softmax(logits: Float32) -> Float32:
    """Turn logits (float32 [n, K], or [K]) into probabilities.

    >>> softmax(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    # One row on a device, where each call into numpy counts: where exp can neither
    # overflow nor vanish, there is nothing to shift.
    is_one = logits.ndim == 1 and logits.size <= _FEW
    if is_one and -_SAFE < max(logits.tolist()) < _SAFE:
        powers: Float32 = np.exp(logits)
        powers /= powers.dot(_ONES[powers.size])
        return powers
    with np.errstate(invalid="ignore"):  # an infinite logit gives NaN, no warning
        exponent = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Float32 = exponent / exponent.sum(axis=-1, keepdims=True)
    return result


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
        StepError: A step is unknown, has unknown parameters, or is out of order.
    """
    for step in observed_steps(steps):
        Parameters(step, PLACE, frozenset())
    decision_rule(steps)


def apply_post(steps: Sequence[StepSpec], outputs: Float32) -> Float32:
    """Apply the steps before observation to float32 [n, K], or to one output, [K]."""
    for step in compile_post(steps):
        outputs = step(outputs)
    return outputs


def compile_post(steps: Sequence[StepSpec]) -> tuple[PostStep, ...]:
    """Return the steps before observation, to be applied one after the other."""
    return tuple(_POST[step["step"]] for step in observed_steps(steps))


def decision_rule(steps: Sequence[StepSpec]) -> DecisionRule:
    """Return what the steps after observation say.

    Raises:
        StepError: A step is unknown, or has wrong parameters.
    """
    return DecisionRule.parse(steps[len(observed_steps(steps)) :])


def observed_steps(steps: Sequence[StepSpec]) -> list[StepSpec]:
    """Return the first steps, those from raw outputs to what is observed."""
    return list(takewhile(lambda one: one.get("step") in _POST, steps))
