# SPDX-License-Identifier: Apache-2.0
"""How accurate a classifier still is, without a label, from a histogram of confidence.

Owns two estimates. CBPE: each confidence bin keeps the accuracy that it had on the
reference (after NannyML's confidence-based performance estimation; calibration is
implicit in the bins). ATC (Garg et al., ICLR 2022): the share of outputs over the
threshold that would have given the reference's accuracy. Both assume that a confidence
means what it meant: they are blind to pure concept drift, and where they disagree,
neither should be believed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.binning import Float64, Int64

MATERIAL_LOSS: Final = 0.02
_DISAGREE: Final = 0.1
_Z = 1.645  # one-sided 95 %
_LEAST_ROWS = 200


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """What the histogram says.

    Attributes:
        reference: Accuracy on the reference.
        cbpe: Estimated now, by bins.
        atc: Estimated now, by the threshold.
        loss: ``reference - cbpe``.
        least_loss: Its lower 95 % limit.
        inferences: How many stand behind it.
    """

    reference: float
    cbpe: float
    atc: float
    loss: float
    least_loss: float
    inferences: int

    @property
    def is_material(self) -> bool:
        """Whether at least two points are lost, for certain."""
        return self.least_loss >= MATERIAL_LOSS

    @property
    def is_doubtful(self) -> bool:
        """Whether the two estimates disagree by ten points."""
        return abs(self.cbpe - self.atc) >= _DISAGREE


def estimate_accuracy(
    counts: Int64, reference: Int64, correct: Int64
) -> AccuracyEstimate | None:
    """Estimate the accuracy of the outputs in ``counts``.

    Args:
        counts: int64 [bins], outputs a confidence bin now.
        reference: int64 [bins], the reference's.
        correct: int64 [bins], those of the reference that were right.

    Returns:
        None where the reference has no labels, or too little was counted.

    >>> then, right = np.array([100, 100]), np.array([50, 90])
    >>> now = estimate_accuracy(np.array([750, 250]), then, right)
    >>> (round(now.reference, 2), round(now.cbpe, 2), now.is_material)
    (0.7, 0.6, True)
    """
    total, behind = int(counts.sum()), int(reference.sum())
    if total < _LEAST_ROWS or behind == 0 or int(correct.sum()) == 0:
        return None
    overall = float(correct.sum() / behind)
    # One pseudo-output of the whole a bin: an empty bin knows nothing of its own.
    accuracy = (correct + overall) / (reference + 1)
    share = counts / total
    cbpe = float(share @ accuracy)
    error = np.sqrt(
        float(share @ (accuracy - cbpe) ** 2) / total
        + float(share**2 @ (accuracy * (1 - accuracy) / (reference + 1)))
    )
    loss = overall - cbpe
    return AccuracyEstimate(
        reference=overall,
        cbpe=cbpe,
        atc=_share_over_threshold(share, reference / behind, 1 - overall),
        loss=loss,
        least_loss=loss - _Z * float(error),
        inferences=total,
    )


def _share_over_threshold(now: Float64, then: Float64, error: float) -> float:
    """Return the share now above the point with ``error`` of the reference below it."""
    below = np.concatenate(([0.0], np.cumsum(then)))
    place = int(np.searchsorted(below, error, side="right")) - 1
    place = min(place, len(then) - 1)
    inside = (error - below[place]) / max(float(then[place]), 1e-12)
    return float(now[place + 1 :].sum() + now[place] * (1 - min(inside, 1.0)))
