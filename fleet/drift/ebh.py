# SPDX-License-Identifier: Apache-2.0
"""e-BH: which of many streams have changed, at a bounded false discovery rate.

Owns the procedure of Wang and Ramdas (JRSS-B 2022), valid under any dependence
between the streams.
"""

import math

import numpy as np

from edge_contract.binning import Float64


def rejection_threshold(e_values: Float64, alpha: float) -> float:
    """Return the smallest e-value that is rejected; infinity when none is.

    Args:
        e_values: float64 [n]; each has expectation at most 1 under the null.
        alpha: The bound on the expected share of false rejections.

    >>> rejection_threshold(np.array([50.0, 1.0, 30.0, 0.0]), 0.1)
    20.0
    >>> rejection_threshold(np.array([30.0, 1.0, 0.5, 0.0]), 0.1)
    inf
    """
    ordered = np.sort(e_values)[::-1]
    ranks = np.arange(1, ordered.size + 1)
    enough = np.flatnonzero(ordered * ranks >= ordered.size / alpha)
    if not enough.size:
        return math.inf
    return ordered.size / (alpha * float(enough[-1] + 1))
