# SPDX-License-Identifier: Apache-2.0
"""Which classes have become more common, from predicted classes alone.

Owns black-box shift estimation (Lipton, Wang and Smola, ICML 2018): predicted class
counts now, divided by the reference's confusion matrix, give the true classes' weights,
as long as only the mix of classes has changed. Counts merge, so it works for a device,
a cohort or a fleet. A reference profile holds no confusion matrix yet; without one
nothing is estimated.
"""

from dataclasses import dataclass

import numpy as np

from edge_contract.binning import Float64, Int64

_LEAST_ROWS = 200
_LEAST_SINGULAR = 0.05  # a worse conditioned matrix would only amplify noise


@dataclass(frozen=True, eq=False)
class LabelShift:
    """The estimate.

    Attributes:
        shares: float64 [K], of each true class now; sums to 1.
        before: float64 [K], in the reference.
        distance: Half the absolute difference, 0 to 1.
        unexplained: Share of predictions that no mix of classes explains.
    """

    shares: Float64
    before: Float64
    distance: float
    unexplained: float


def estimate_label_shift(predicted: Int64, confusion: Int64) -> LabelShift | None:
    """Estimate the mix of classes behind ``predicted``.

    Args:
        predicted: int64 [K], predictions a class now.
        confusion: int64 [K, K], the reference's: row the truth, column the prediction.

    Returns:
        None with too few rows, or a model that cannot tell the classes apart.

    >>> sure = np.array([[90, 10], [20, 80]])
    >>> shift = estimate_label_shift(np.array([270, 730]), sure)
    >>> [round(float(one), 2) for one in shift.shares]
    [0.1, 0.9]
    """
    truth = confusion.sum(axis=1)
    if predicted.sum() < _LEAST_ROWS or (truth == 0).any():
        return None
    rates = (confusion / truth[:, np.newaxis]).T
    if np.linalg.svd(rates, compute_uv=False)[-1] < _LEAST_SINGULAR:
        return None
    observed = predicted / predicted.sum()
    shares = np.maximum(np.linalg.solve(rates, observed), 0)
    shares /= shares.sum()
    before = truth / truth.sum()
    return LabelShift(
        shares=shares,
        before=before,
        distance=float(np.abs(shares - before).sum() / 2),
        unexplained=float(np.abs(rates @ shares - observed).sum() / 2),
    )
