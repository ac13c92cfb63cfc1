# SPDX-License-Identifier: Apache-2.0
"""Reading a ``.skops`` file without running code of its author's.

Owns which types are taken beyond those that skops itself trusts: some of scikit-learn
that hold plain numbers. Its tree code follows the numbers without checking them, so
they are checked here. See ``sklearn_model``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_TREE = "sklearn.tree._tree.Tree"
_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_TAKEN = {
    _TREE,
    _PREDICTOR,
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
}
_MAX_OBJECTS = 1_000_000


class UntrustedTypesError(Exception):
    """The file holds types that could run code."""


def read(path: Path, *, is_trusted: bool) -> Any:
    """Return the estimator of a file.

    Args:
        path: The file.
        is_trusted: Whether any type may be built.

    Raises:
        UntrustedTypesError: It holds other types than scikit-learn's known ones.
        ValueError: A tree leads nowhere.
    """
    import skops.io

    found = skops.io.get_untrusted_types(file=path)
    foreign = sorted(set(found) - _TAKEN)
    if foreign and not is_trusted:
        raise UntrustedTypesError(", ".join(foreign)[:200])
    estimator = skops.io.load(path, trusted=found)
    for one in _objects(estimator):
        _check(one)
    return estimator


def _objects(root: Any) -> Iterator[Any]:
    """Yield what an estimator is made of, each object once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if len(seen) > _MAX_OBJECTS:
            msg = f"more than {_MAX_OBJECTS} objects"
            raise ValueError(msg)
        yield one
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, (list, tuple, set)):
            waiting += one
        elif isinstance(one, np.ndarray):
            waiting += one.ravel().tolist() if one.dtype.hasobject else ()
        else:
            waiting += vars(one).values() if hasattr(one, "__dict__") else ()


def _check(one: Any) -> None:
    name = f"{type(one).__module__}.{type(one).__qualname__}"
    if name == _TREE:
        _check_ways(
            one.children_left != -1,
            [one.children_left, one.children_right],
            one.feature,
            one.n_features,
        )
    elif name == _PREDICTOR:
        nodes = one.nodes
        _check_ways(
            nodes["is_leaf"] == 0,
            [nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)],
            nodes["feature_idx"],
            np.iinfo(np.int32).max,
        )


def _check_ways(inner: Any, ways: list[Any], features: Any, width: int) -> None:
    count = np.arange(len(inner))
    leads = [(way[inner] > count[inner]) & (way[inner] < len(inner)) for way in ways]
    is_feature = (features[inner] >= 0) & (features[inner] < width)
    if not len(inner) or not all(one.all() for one in (*leads, is_feature)):
        msg = "a tree leads out of its nodes"
        raise ValueError(msg)
