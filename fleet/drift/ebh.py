# SPDX-License-Identifier: Apache-2.0
"""e-BH: which of many streams have changed, at a bounded false discovery rate.

Owns the procedure of Wang and Ramdas (JRSS-B 2022), valid under any dependence
between the streams.
"""

import numpy as np

from edge_contract.binning import Float64


def e_bh(e_values: Float64, alpha: float) -> np.ndarray:
    """Return a bool mask, shaped like ``e_values``, of the streams to reject.

    Args:
        e_values: float64 of any shape; each has expectation at most 1 under the null.
        alpha: The bound on the expected share of false rejections.

    >>> e_bh(np.array([50.0, 1.0, 30.0, 0.0]), 0.1).tolist()
    [True, False, True, False]
    >>> e_bh(np.array([30.0, 1.0, 0.5, 0.0]), 0.1).tolist()
    [False, False, False, False]
    """
    if not e_values.size:
        return np.zeros(e_values.shape, dtype=bool)
    ordered = np.sort(e_values, axis=None)[::-1]
    ranks = np.arange(1, ordered.size + 1)
    enough = np.flatnonzero(ordered * ranks >= ordered.size / alpha)
    if not enough.size:
        return np.zeros(e_values.shape, dtype=bool)
    mask: np.ndarray = e_values >= ordered[enough[-1]]
    return mask
