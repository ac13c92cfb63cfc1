# SPDX-License-Identifier: Apache-2.0
"""Scores of outputs under weights, so that one pass scores many resamples.

Owns AUC, F1, RMSE and relative RMS error. Each function takes weights float64 [B, n],
how often a frame is in each of B resamples, and returns float64 [B].
"""

import numpy as np
from numpy.typing import NDArray

from converter.tensors import Float32, Float64, Int64


def auc(outputs: Float32, truth: Int64, weights: Float64) -> Float64:
    """Return the area under the ROC curve, the mean over classes for more than two.

    It is the chance that a positive scores above a negative, ties half (Hanley and
    McNeil, Radiology 143, 1982). One output column scores class 1.

    >>> scores = np.array([[0.1], [0.4], [0.35], [0.8]], np.float32)
    >>> auc(scores, np.array([0, 0, 1, 1]), np.ones((1, 4))).tolist()
    [0.75]
    """
    columns = outputs.shape[1]
    if columns == 1:
        return _binary_auc(outputs[:, 0], truth == 1, weights)
    if columns == 2:
        return _binary_auc(outputs[:, 1], truth == 1, weights)
    present = [one for one in range(columns) if (truth == one).any()]
    each = [_binary_auc(outputs[:, one], truth == one, weights) for one in present]
    return np.mean(each, axis=0)  # type: ignore[no-any-return]


def _binary_auc(
    scores: Float32, positive: NDArray[np.bool_], weights: Float64
) -> Float64:
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.float32(np.nan)) != 0)
    ordered = weights[:, order]
    hits = np.add.reduceat(ordered * positive[order], starts, axis=1)
    misses = np.add.reduceat(ordered * ~positive[order], starts, axis=1)
    below = np.cumsum(misses, axis=1) - misses
    wins = (hits * (below + misses / 2)).sum(axis=1)
    pairs = hits.sum(axis=1) * misses.sum(axis=1)
    found: Float64 = np.divide(
        wins, pairs, out=np.full(len(weights), 0.5), where=pairs > 0
    )
    return found


def f1(outputs: Float32, truth: Int64, weights: Float64) -> Float64:
    """Return the F1 score, the mean over the classes that occur.

    >>> winners = np.eye(2, dtype=np.float32)[[0, 1, 1, 1]]
    >>> round(float(f1(winners, np.array([0, 0, 1, 1]), np.ones((1, 4)))[0]), 4)
    0.7333
    """
    classes = max(outputs.shape[1], 2)
    winners = outputs.argmax(axis=1)
    if outputs.shape[1] == 1:
        winners = (outputs[:, 0] > 0.5).astype(np.int64)
    found, expected = np.eye(classes)[winners], np.eye(classes)[truth]
    both = weights @ (found * expected)
    total = weights @ (found + expected)
    each = np.divide(2 * both, total, out=np.zeros_like(both), where=total > 0)
    occurs = total > 0
    score: Float64 = each.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return score


def rmse(outputs: Float32, truth: Float32, weights: Float64) -> Float64:
    """Return the root mean squared error over all output values.

    >>> found = np.array([[1.0], [3.0]], np.float32)
    >>> rmse(found, np.array([[0.0], [3.0]], np.float32), np.ones((1, 2))).round(4)
    array([0.7071])
    """
    each = ((outputs.astype(np.float64) - truth) ** 2).mean(axis=1)
    found: Float64 = np.sqrt(weights @ each / weights.sum(axis=1))
    return found


def relative_rms(outputs: Float32, base: Float32, weights: Float64) -> Float64:
    """Return the RMS difference from ``base`` over the RMS of ``base``: 10^(-SQNR/20).

    >>> base = np.array([[3.0], [4.0]], np.float32)
    >>> relative_rms(base + np.float32(0.5), base, np.ones((1, 2))).round(4)
    array([0.1414])
    """
    exact = base.astype(np.float64)
    noise = ((outputs - exact) ** 2).sum(axis=1)
    signal = (exact**2).sum(axis=1)
    loud = weights @ signal
    found: Float64 = np.sqrt(
        np.divide(
            weights @ noise, loud, out=np.full(len(weights), np.inf), where=loud > 0
        )
    )
    return found
