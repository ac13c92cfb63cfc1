# SPDX-License-Identifier: Apache-2.0
"""scikit-learn models, in the worker; exported to ONNX by skl2onnx.

Owns what scikit-learn is asked for: class probabilities of a classifier, predictions of
a regressor. A scaler before trees is folded into their thresholds, so that no rounding
of a scaled input flips a branch. See ``serve``.
"""

import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from converter.loaders.workers.serve import Refuse

_OPSETS = {"": 17, "ai.onnx.ml": 3}
_MAX_REASON = 300
_TREES = {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}
_SCALERS = {"MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"}
_CHUNK = 8192
_SIGN = np.int64(2**31)


def load(request: dict[str, Any], refuse: "Refuse") -> "Model":
    """Load the model of a request: ``path``, and whether to ``trust`` it."""
    try:
        import skl2onnx
        import sklearn
        import skops
    except ImportError as error:
        raise refuse(
            "missing",
            f"reading a scikit-learn model needs its extra: {error}",
            "pip install 'edgeloop[sklearn]'",
        ) from error
    toolchain = {"scikit-learn": sklearn.__version__, "skl2onnx": skl2onnx.__version__}
    if Path(request["path"]).suffix.lower() == ".skops":
        toolchain["skops"] = skops.__version__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", sklearn.exceptions.InconsistentVersionWarning
            )
            loaded = _read(request, refuse)
    except sklearn.exceptions.InconsistentVersionWarning as error:
        raise refuse(
            "model",
            f"saved by scikit-learn {error.original_sklearn_version},"
            f" read by {sklearn.__version__}: it may compute something else",
            "save it again with the installed version, or install the other",
        ) from error
    except Exception as error:
        if hasattr(error, "answer"):
            raise
        raise refuse(
            "model",
            f"scikit-learn cannot load this file: {_brief(error)}",
            "save it again with the installed version",
        ) from error
    return Model(loaded, toolchain, refuse)


def _read(request: dict[str, Any], refuse: "Refuse") -> Any:
    path = Path(request["path"])
    if path.suffix.lower() != ".skops":
        import joblib

        return joblib.load(path)
    skops_file = importlib.import_module("skops_file")  # beside this file
    try:
        return skops_file.read(path, is_trusted=request["trust"])
    except skops_file.UntrustedTypesError as error:
        raise refuse(
            "untrusted",
            f"holds types that are not scikit-learn's known ones: {error}",
            "save a model without code of its own, or pass --trust-pickle",
        ) from error


class Model:
    """A fitted estimator, maybe at the end of a pipeline."""

    def __init__(
        self, estimator: Any, toolchain: dict[str, str], refuse: "Refuse"
    ) -> None:
        from sklearn.base import BaseEstimator, is_classifier, is_regressor

        self._estimator, self._refuse = estimator, refuse
        name = type(estimator).__name__
        is_one = isinstance(estimator, BaseEstimator)
        self._is_classifier = is_one and is_classifier(estimator)
        if not self._is_classifier and not (is_one and is_regressor(estimator)):
            raise refuse(
                "model",
                f"expected a classifier or a regressor, found {name}",
                "save the fitted model, not its parameters or its transformer",
            )
        if self._is_classifier and not hasattr(estimator, "predict_proba"):
            raise refuse(
                "model",
                f"expected class probabilities, {name} has no predict_proba",
                "wrap it in sklearn.calibration.CalibratedClassifierCV",
            )
        self._width: Any = getattr(estimator, "n_features_in_", None)
        if self._width is None:
            msg = f"expected a fitted model, {name} has no n_features_in_"
            raise refuse("model", msg, "call fit before saving")
        classes = getattr(estimator, "classes_", ())
        if any(isinstance(one, (list, np.ndarray)) for one in classes):
            msg = f"expected one output, {name} has {len(classes)}"
            raise refuse("model", msg, "train one model for each output")
        names = getattr(estimator, "feature_names_in_", ())
        self.facts: dict[str, Any] = {
            "toolchain": toolchain,
            "labels": [str(one) for one in classes] if self._is_classifier else [],
            "features": [str(one) for one in names],
        }

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, N]; return probabilities [n, K] or values [n, K]."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model of named columns gets none here
            if self._is_classifier:
                return self._estimator.predict_proba(frames)
            found = np.asarray(self._estimator.predict(frames))
        return found.reshape(len(frames), -1)

    def export(self) -> bytes:
        """Return an ONNX file with float32 inputs."""
        scalers, final = _split(self._estimator)
        _round_thresholds(final)
        try:
            if scalers:
                folded = self._to_onnx(final)
                if _is_trees(folded):
                    _fold(folded, scalers, self._width)
                    return bytes(folded.SerializeToString(deterministic=True))
            found = self._to_onnx(self._estimator)
            return bytes(found.SerializeToString(deterministic=True))
        except Exception as error:  # the library raises many kinds
            raise self._refuse(
                "operator",
                f"skl2onnx cannot export this model: {_brief(error)}",
                "see the supported models of skl2onnx",
            ) from error

    def _to_onnx(self, estimator: Any) -> Any:
        import skl2onnx
        from skl2onnx.common import _container
        from skl2onnx.common.data_types import FloatTensorType

        # Some converters write flags as bool, which newer protobufs do not take.
        make_node = _container.make_node
        _container.make_node = lambda *given, **attributes: make_node(
            *given, **{name: _plain(one) for name, one in attributes.items()}
        )
        try:
            return skl2onnx.to_onnx(
                estimator,
                initial_types=[("input", FloatTensorType([None, self._width]))],
                options={"zipmap": False} if self._is_classifier else None,
                target_opset=_OPSETS,
            )
        finally:
            _container.make_node = make_node


def _plain(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(one, bool) for one in value):
        return [int(one) for one in value]
    return value


def _split(estimator: Any) -> tuple[list[Any], Any]:
    """Return the scalers of a pipeline that has nothing else before its end."""
    from sklearn.pipeline import Pipeline

    if not isinstance(estimator, Pipeline):
        return [], estimator
    steps = [one for _, one in estimator.steps if one not in {None, "passthrough"}]
    *scalers, final = steps
    monotone = all(type(one).__name__ in _SCALERS for one in scalers)
    return (scalers, final) if monotone else ([], estimator)


def _round_thresholds(estimator: Any) -> None:
    """Make float64 thresholds float32 downwards, where skl2onnx takes the nearest.

    A float32 input is below the one where it is below the other: no output changes.
    """
    for one in np.ravel(getattr(estimator, "_predictors", [])):
        limits = one.nodes["num_threshold"]
        near = limits.astype(np.float32)
        lower = np.nextafter(near, np.float32(-np.inf))
        one.nodes["num_threshold"] = np.where(near > limits, lower, near)


def _is_trees(model: Any) -> bool:
    found = [one for one in model.graph.node if one.op_type in _TREES]
    given = model.graph.input[0].name
    return len(found) == 1 and list(found[0].input) == [given]


def _fold(model: Any, scalers: list[Any], width: int) -> None:
    """Replace each threshold by the largest input that still goes the same way."""
    node = next(one for one in model.graph.node if one.op_type in _TREES)
    known = {one.name: one for one in node.attribute}
    modes = np.array([one == b"BRANCH_LEQ" for one in known["nodes_modes"].strings])
    features = np.array(known["nodes_featureids"].ints)[modes]
    values = np.array(known["nodes_values"].floats, dtype=np.float32)
    folded = values.copy()
    folded[modes] = np.concatenate(
        [
            _largest_below(
                scalers,
                features[start : start + _CHUNK],
                values[modes][start : start + _CHUNK],
                width,
            )
            for start in range(0, len(features), _CHUNK)
        ]
        or [values[:0]]
    )
    del known["nodes_values"].floats[:]
    known["nodes_values"].floats.extend(folded.tolist())


def _largest_below(scalers: list[Any], features: Any, limits: Any, width: int) -> Any:
    """Return by bisection the largest float32 x with ``scaled(x) <= limit``."""
    from sklearn import config_context

    every = np.arange(len(features))
    largest = np.finfo(np.float32).max
    low = _order(np.full(len(features), -largest))
    high = _order(np.full(len(features), largest))

    def is_below(order: Any) -> Any:
        rows = np.zeros((len(features), width), np.float32)
        rows[every, features] = _value(order)
        for one in scalers:
            rows = one.transform(rows)
        return rows[every, features] <= limits

    with config_context(assume_finite=True), np.errstate(all="ignore"):
        never, always = ~is_below(low), is_below(high)
        while (high - low > 1).any():
            middle = (low + high) // 2
            below = is_below(middle)
            low, high = np.where(below, middle, low), np.where(below, high, middle)
    found = np.where(always, largest, _value(low))
    return np.where(never, -np.inf, found).astype(np.float32)


def _order(values: Any) -> Any:
    """Return integers in the order of float32 values."""
    bits = values.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits + _SIGN))


def _value(order: Any) -> Any:
    bits = np.where(order >= 0, order, -order - _SIGN)
    return bits.astype(np.int32).view(np.float32)


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_MAX_REASON]
