# SPDX-License-Identifier: Apache-2.0
"""What a model's outputs mean: class probabilities, after steps where needed.

Owns the rule that finds the steps and the names of classes and features. The steps
themselves are in ``edge_contract.steps``.
"""

import re

import numpy as np

from converter.data.dataset import Dataset, Float32, FrameRule
from converter.errors import ConvertDataError, ConvertShapeError
from converter.tensors import TensorSpec
from edge_contract.profile import MAX_FEATURES, MAX_LABELS

PostSteps = tuple[dict[str, str], ...]
_SUM_TOLERANCE = 1e-3
_AXES = re.compile(r"(.*?)[_. ]?([xyz])", re.ASCII | re.IGNORECASE)


def class_count(output: TensorSpec) -> int:
    """Return how many classes an output scores.

    Raises:
        ConvertShapeError: The output is not [1, K] with K >= 2.
    """
    shape = output.shape
    if len(shape) != 2 or not 2 <= shape[1] <= MAX_LABELS:
        msg = f"output {output.name!r}: expected shape [1, K] with 2 to {MAX_LABELS}"
        msg += f" class scores, found {list(shape)}"
        raise ConvertShapeError(msg, next_step="only classifiers can be built yet")
    return shape[1]


def post_steps(outputs: Float32, output: TensorSpec) -> PostSteps:
    """Return the steps that turn raw outputs (float32 [n, K]) into probabilities.

    Raises:
        ConvertShapeError: Scores from 0 to 1 that do not sum to 1.
    """
    if outputs.min() < 0 or outputs.max() > 1:
        return ({"step": "softmax"},)
    if np.abs(outputs.sum(axis=1) - 1).max() <= _SUM_TOLERANCE:
        return ()
    msg = f"output {output.name!r}: expected class probabilities or logits"
    msg += ", found scores from 0 to 1 that do not sum to 1"
    raise ConvertShapeError(msg, next_step="end the model in softmax or logits")


def label_names(asked: tuple[str, ...], data: Dataset, classes: int) -> tuple[str, ...]:
    """Return a name for each class: asked for, from the data file, or numbers.

    Raises:
        ConvertDataError: Another number of names than classes.
    """
    names = asked or data.label_names or tuple(str(one) for one in range(classes))
    return _checked(names, classes, "labels", "the model's outputs")


def feature_names(
    asked: tuple[str, ...], data: Dataset, rule: FrameRule
) -> tuple[str, ...]:
    """Return a name for each observed feature, as ``label_names`` does.

    Raises:
        ConvertDataError: Another number of names than features, or too many.
    """
    count = rule.features
    if count > MAX_FEATURES:
        msg = f"input: expected at most {MAX_FEATURES} observed features, found {count}"
        raise ConvertDataError(msg, next_step="pass --observe series")
    names = asked or data.feature_names or tuple(f"f{one}" for one in range(count))
    return _checked(names, count, "features", "the observed values of a row")


def triads(features: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """Return the features that form three-axis sensors, by their names.

    >>> triads(("ax", "ay", "az", "temperature"))
    ((0, 1, 2),)
    """
    stems: dict[str, dict[str, int]] = {}
    for index, name in enumerate(features):
        match = _AXES.fullmatch(name)
        if match:
            stem, axis = match.group(1).lower(), match.group(2).lower()
            stems.setdefault(stem, {})[axis] = index
    return tuple(
        (axes["x"], axes["y"], axes["z"])
        for axes in stems.values()
        if len(axes) == len("xyz")
    )


def _checked(names: tuple[str, ...], count: int, what: str, of: str) -> tuple[str, ...]:
    if len(names) != count or len(set(names)) != count or not all(names):
        msg = f"{what}: expected {count} different names ({of})"
        msg += f", found {len(names)}: {', '.join(names)[:80]}"
        raise ConvertDataError(msg, next_step=f"pass --{what} with {count} names")
    return names
