# SPDX-License-Identifier: Apache-2.0
"""How large a change is, apart from how certain it is.

Owns distances between two histograms over the same bins. They are taken on all windows
since the change, against the device's own baseline: in a single window of 300 rows the
Jensen-Shannon distance is 0.09 without any drift. The population stability index is
shown because operators know it; it decides nothing.
"""

from dataclasses import dataclass

import numpy as np

from edge_contract.binning import Float64

_PSEUDO = 0.5


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a histogram is from a baseline.

    Attributes:
        jensen_shannon: Distance with base-2 logarithms (Lin 1991), 0 to 1.
        wasserstein: First Wasserstein distance over the bins' normal scores, in
            baseline sd.
        psi: Population stability index, for show.
        rows: Rows of the histogram.
    """

    jensen_shannon: float
    wasserstein: float
    psi: float
    rows: int

    def passes(self, gate: float) -> bool:
        """Whether either distance is at least ``gate``."""
        return max(self.jensen_shannon, self.wasserstein) >= gate


def measure_distance(
    counts: Float64, baseline: Float64, scores: Float64, mean_shift: float = 0.0
) -> Distance:
    """Measure how far ``counts`` are from ``baseline``.

    Args:
        counts: float64 [bins], rows since the change.
        baseline: float64 [bins], shares of the device's own history.
        scores: float64 [bins], value of each bin's middle in baseline sd, growing.
        mean_shift: The shift of the mean by moments, in baseline sd: bins are blind
            beyond their ends, so a larger shift by moments counts.

    >>> even = np.full(4, 0.25)
    >>> far = measure_distance(np.array([0, 0, 0, 8.0]), even, np.arange(4) - 1.5)
    >>> round(far.jensen_shannon, 2), far.wasserstein
    (0.74, 1.5)
    """
    total = float(counts.sum())
    if total <= 0:
        return Distance(0.0, abs(mean_shift), 0.0, 0)
    p, q = counts / total, baseline / baseline.sum()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    steps = np.abs(np.cumsum(p - q))[:-1] * np.diff(scores)
    smooth = (counts + _PSEUDO) / (total + _PSEUDO * len(counts))
    floor = np.maximum(q, _PSEUDO / (total + 1))
    return Distance(
        jensen_shannon=float(np.sqrt(max(divergence, 0.0))),
        wasserstein=max(float(steps.sum()), abs(mean_shift)),
        psi=float(((smooth - floor) * np.log(smooth / floor)).sum()),
        rows=int(total),
    )


def _relative_entropy(p: Float64, q: Float64) -> float:
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())
