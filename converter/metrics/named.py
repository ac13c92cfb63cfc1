# SPDX-License-Identifier: Apache-2.0
"""The metrics by their names on the command line.

Owns which metric counts frames and which is resampled, what each needs, and how a drop
is counted: ``top1``, ``agreement`` of classes, ``auc`` and ``f1`` in points of the
metric; ``rmse`` and a custom metric as a share of float's value; ``agreement`` of
real-valued outputs as relative RMS error, 10^(-SQNR/20).
"""

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from converter.errors import ConvertMetricError, ConvertUsageError
from converter.metrics import bootstrap, scores
from converter.metrics.comparison import Comparison, Metric, Truth
from converter.metrics.custom import CustomFunction
from converter.metrics.paired import (
    Z95,
    Paired,
    drop_upper_bound,
    samples_needed,
)
from converter.tensors import Float32, Float64, Int64

Task = Literal["classification", "regression"]
Score = Callable[[Float32, Float64], Float64]
NAMES: Final = ("top1", "auc", "f1", "rmse", "agreement")
_CUSTOM_RESAMPLES: Final = 200
_CLASSES_ONLY: Final = {"top1", "auc", "f1"}
_TINY: Final = 1e-12


def check_metric_name(name: str | None) -> None:
    """Refuse a name that is no metric's.

    Raises:
        ConvertUsageError: No such metric.
    """
    if name is not None and name not in NAMES and ".py:" not in name:
        msg = f"--metric: expected {', '.join(NAMES)} or FILE.py:FUNCTION"
        raise ConvertUsageError(f"{msg}, found {name!r}", next_step="use one of these")


def open_metric(name: str, task: Task) -> Metric:
    """Return the metric called ``name``.

    Raises:
        ConvertUsageError: No such metric, or not one for the task.
        ConvertMetricError: A custom metric cannot be loaded.
    """
    check_metric_name(name)
    if ".py:" in name:
        return ResampledMetric(name, needs_truth=False, function=CustomFunction(name))
    if name in _CLASSES_ONLY and task != "classification":
        msg = f"--metric {name}: expected a classifier, found real-valued outputs"
        raise ConvertUsageError(msg, next_step="use rmse or agreement")
    if name == "rmse" and task != "regression":
        msg = "--metric rmse: expected real-valued outputs, found a classifier"
        raise ConvertUsageError(msg, next_step="use top1, auc, f1 or agreement")
    if name == "top1" or (name == "agreement" and task == "classification"):
        return CountMetric(name)
    return ResampledMetric(name, needs_truth=name != "agreement")


class CountMetric:
    """``top1`` and ``agreement`` of winners: frames are right or wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.needs_truth = name == "top1"

    def compare(
        self, base: Float32, other: Float32, truth: Truth, clusters: Int64 | None
    ) -> Comparison:
        """Compare by Tango's interval; ``clusters`` do not widen it."""
        del clusters
        first, second = _winners(base), _winners(other)
        target = first if truth is None or not self.needs_truth else truth
        right, kept = first == target, second == target
        pair = Paired(
            int((right & ~kept).sum()), int((~right & kept).sum()), len(right)
        )
        return Comparison(
            self.name,
            float(right.mean()),
            float(kept.mean()),
            pair.drop,
            drop_upper_bound(pair),
            pair.samples,
            pair.worse,
            pair.better,
        )

    def samples_needed(self, found: Comparison, max_drop: float) -> int | None:
        """Return how many frames would prove ``max_drop``; see ``Metric``."""
        pair = Paired(found.worse, found.better, found.samples)
        return samples_needed(pair, max_drop)


class ResampledMetric:
    """Any other metric: its drop's interval comes from the paired bootstrap."""

    def __init__(
        self,
        name: str,
        *,
        needs_truth: bool,
        function: CustomFunction | None = None,
    ) -> None:
        self.name = name
        self.needs_truth = needs_truth
        self._function = function

    def compare(
        self, base: Float32, other: Float32, truth: Truth, clusters: Int64 | None
    ) -> Comparison:
        """Compare; see ``Metric``."""
        if not (np.isfinite(base).all() and np.isfinite(other).all()):
            msg = f"--metric {self.name}: expected finite outputs, found others"
            raise ConvertMetricError(msg, next_step="check the model on its own data")
        if self._function is not None:
            return self._custom(self._function, base, other, truth, clusters)
        score = _score(self.name, base, truth)
        once = np.ones((1, len(base)))
        first, second = float(score(base, once)[0]), float(score(other, once)[0])

        def drop_of(weights: Float64) -> Float64:
            return self._drop(score(base, weights), score(other, weights))

        drop = float(self._drop(np.array([first]), np.array([second]))[0])
        upper = max(drop, bootstrap.upper_bound(drop_of, len(base), clusters))
        if self.name == "f1":
            # Without one changed winner a resample shows no spread at all.
            upper = max(upper, drop + Z95**2 / (len(base) + Z95**2))
        return Comparison(self.name, first, second, drop, upper, len(base))

    def samples_needed(self, found: Comparison, max_drop: float) -> int | None:
        """Return how many frames would prove ``max_drop``; see ``Metric``."""
        return bootstrap.samples_needed(
            found.samples, found.drop, found.upper, max_drop
        )

    def _drop(self, first: Float64, second: Float64) -> Float64:
        if self.name == "agreement":
            return second - first
        if self.name == "rmse":
            return (second - first) / np.maximum(np.abs(first), _TINY)
        if self._function is not None:
            return (first - second) / np.maximum(np.abs(first), _TINY)
        return first - second

    def _custom(
        self,
        function: CustomFunction,
        base: Float32,
        other: Float32,
        truth: Truth,
        clusters: Int64 | None,
    ) -> Comparison:
        first, second = function(base, truth), function(other, truth)
        drop = float(self._drop(np.array([first]), np.array([second]))[0])
        drops = []
        for weights in bootstrap.resample_weights(
            len(base), clusters, _CUSTOM_RESAMPLES
        ):
            for one in weights:
                drawn = np.repeat(np.arange(len(base)), one.astype(np.int64))
                part = None if truth is None else truth[drawn]
                pair = function(base[drawn], part), function(other[drawn], part)
                drops.append(self._drop(np.array(pair[:1]), np.array(pair[1:]))[0])
        upper = max(drop, float(np.percentile(drops, 97.5)))
        return Comparison(self.name, first, second, drop, upper, len(base))


def _score(name: str, base: Float32, truth: Truth) -> Score:
    if name == "agreement":
        return lambda outputs, weights: scores.relative_rms(outputs, base, weights)
    if truth is None:
        msg = f"--metric {name}: expected labels or targets 'y', found none"
        raise ConvertMetricError(msg, next_step="add them, or use --metric agreement")
    if name == "rmse":
        targets = truth.astype(np.float32).reshape(len(base), -1)
        if targets.shape != base.shape:
            msg = f"--metric rmse: expected targets of shape {list(base.shape)}"
            raise ConvertMetricError(
                f"{msg}, found {list(targets.shape)}", next_step="check 'y'"
            )
        return lambda outputs, weights: scores.rmse(outputs, targets, weights)
    labels = truth.astype(np.int64)
    function = scores.auc if name == "auc" else scores.f1
    return lambda outputs, weights: function(outputs, labels, weights)


def _winners(outputs: Float32) -> Int64:
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0.5).astype(np.int64)
    winners: Int64 = outputs.argmax(axis=1)
    return winners
