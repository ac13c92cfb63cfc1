# SPDX-License-Identifier: Apache-2.0
"""What a model's outputs mean: class probabilities after steps, or real values.

Owns the rule that finds task and steps, and the names of classes and features. The
steps themselves are in ``edge_contract.steps``.
"""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from converter.data.dataset import Dataset
from converter.data.rule import FrameRule
from converter.errors import ConvertDataError, ConvertShapeError
from converter.model import FloatModel
from converter.tensors import Float32
from edge_contract import quality
from edge_contract.profile import MAX_FEATURES, MAX_LABELS, MAX_WIDTH

PostSteps = tuple[dict[str, str], ...]
Task = Literal["classification", "regression"]
_SUM_TOLERANCE: Final = 1e-3
_AXES: Final = re.compile(r"(.*?)[_. ]?([xyz])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Meaning:
    """What outputs are.

    Attributes:
        task: ``classification`` or ``regression``.
        post: Steps from raw outputs to class probabilities, then those to a decision.
        classes: How many; 0 for regression.
    """

    task: Task
    post: PostSteps
    classes: int


def find_meaning(
    model: FloatModel, raw: Float32, *, asked: Task | None, has_classes: bool
) -> Meaning:
    """Return what a model's outputs mean.

    A classifier ends in a softmax, or gives probabilities, or comes with class numbers
    or names; anything else has real values. ``--task`` overrides.

    Args:
        model: The float model.
        raw: float32 [n, ...], outputs on some frames.
        asked: What the user says it is.
        has_classes: Whether labels are class numbers, or class names are given.

    Raises:
        ConvertShapeError: A classifier whose outputs are no scores of classes.
    """
    shape = model.output.shape
    width = math.prod(shape)
    outputs = raw.reshape(len(raw), -1)
    if width > MAX_WIDTH:
        msg = f"output {model.output.name!r}: {width} values are more than {MAX_WIDTH}"
        raise ConvertShapeError(msg, next_step="reduce the output in the model")
    is_flat = len(shape) == 2 and width <= MAX_LABELS
    looks_right = bool(model.post) or (width > 1 and _are_probabilities(outputs))
    is_classifier = is_flat and (has_classes or looks_right)
    if asked is not None:
        is_classifier = asked == "classification"
    if not is_classifier:
        return Meaning("regression", (), 0)
    if not is_flat:
        msg = f"output {model.output.name!r}: expected shape [1, K] with up to"
        msg += f" {MAX_LABELS} class scores, found {list(shape)}"
        raise ConvertShapeError(msg, next_step="pass --task regression")
    post = _class_steps(model, outputs)
    return Meaning("classification", post, max(width, 2))


def _class_steps(model: FloatModel, outputs: Float32) -> PostSteps:
    within = bool(outputs.min() >= 0 and outputs.max() <= 1)
    if outputs.shape[1] == 1:
        return ({"step": "pair" if within else "sigmoid_pair"},)
    if model.post:
        return tuple({"step": one} for one in model.post)
    if _are_probabilities(outputs):
        return ()
    if not within:
        return ({"step": "softmax"},)
    msg = f"output {model.output.name!r}: expected class probabilities or logits"
    msg += ", found scores from 0 to 1 that do not sum to 1"
    raise ConvertShapeError(
        msg, next_step="end the model in softmax or logits, or pass --task regression"
    )


def _are_probabilities(outputs: Float32) -> bool:
    if outputs.min() < 0 or outputs.max() > 1:
        return False
    return bool(np.abs(outputs.sum(axis=1) - 1).max() <= _SUM_TOLERANCE)


def label_names(asked: tuple[str, ...], data: Dataset, classes: int) -> tuple[str, ...]:
    """Return a name for each class: asked for, from the data file, or numbers.

    Raises:
        ConvertDataError: Another number of names than classes.
    """
    if not classes:
        return ()
    names = asked or data.label_names or tuple(str(one) for one in range(classes))
    return _checked(names, classes, "labels", "the model's outputs")


def feature_names(
    asked: tuple[str, ...], data: Dataset, rule: FrameRule
) -> tuple[str, ...]:
    """Return a name for each observed feature, as ``label_names`` does.

    Raises:
        ConvertDataError: Another number of names than features, or too many.
    """
    if rule.observe not in {"vector", "series"}:
        return quality.feature_names(rule.observe, rule.width)
    count = rule.features
    if count > MAX_FEATURES:
        msg = f"input: expected at most {MAX_FEATURES} observed features, found {count}"
        raise ConvertDataError(msg, next_step="pass --observe embedding")
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
