# SPDX-License-Identifier: Apache-2.0
"""Equal-mass bins: edges from reference values, counts of new ones, contrasts.

Owns docs/spec/windows.md, WIN-2: a value ``v`` falls into bin
``searchsorted(edges, v, side="right")`` in float32; a category into its own, every
other value into the last. Converter, agent and fleet call this one implementation. It
keeps no state; see ``window`` for sums over time.

Location and scale *contrasts* read a histogram as if it were a sample: each bin counts
as the normal score of its middle in the reference. Both are in reference standard
deviations and need nothing but counts, so they work under added noise as well.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 16
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def equal_mass_edges(values: Float32, bins: int = BINS) -> Float32:
    """Return the inner edges of up to ``bins`` bins of equal mass.

    Args:
        values: float32 [n], finite, n >= 1.
        bins: How many bins to aim for.

    Returns:
        float32 [k], k < ``bins``, strictly increasing; fewer where values repeat.

    >>> equal_mass_edges(np.arange(8, dtype=np.float32), 4).tolist()
    [2.0, 4.0, 6.0]
    """
    ordered = np.sort(values.astype(np.float32))
    ranks = (np.arange(1, bins) * len(ordered)) // bins
    edges: Float32 = np.unique(ordered[ranks])
    inner: Float32 = edges[edges > ordered[0]]
    return inner


class BinTable:
    """Counts rows of features into bins of their own, all features in one pass.

    Args:
        edges: One strictly increasing float32 array a feature, at most 15 long each.
        categories: One a feature: the values that have a bin, strictly increasing, or
            None where edges tell; no feature has both.

    >>> table = BinTable([np.array([0, 1], np.float32), np.array([5], np.float32)])
    >>> table.count(np.array([[0.5, 9], [2, np.nan]], np.float32)).tolist()
    [0, 1, 1, 0, 1]
    """

    def __init__(
        self,
        edges: Sequence[Float32],
        categories: Sequence[Float32 | None] | None = None,
    ) -> None:
        self._edges = [np.ascontiguousarray(one, dtype=np.float32) for one in edges]
        self._categories = {
            feature: np.ascontiguousarray(one, dtype=np.float32)
            for feature, one in enumerate(categories or ())
            if one is not None
        }
        widths = np.array([len(one) + 1 for one in self._edges], dtype=np.int64)
        for feature, values in self._categories.items():
            widths[feature] = len(values) + 1
        self.offsets: Int64 = np.concatenate(([0], np.cumsum(widths)))
        self.size = int(self.offsets[-1])

    def count(self, rows: Float32) -> Int64:
        """Count ``rows`` (float32 [n, F]); a value that is not finite is left out.

        Returns:
            int64 [size]: the bins of the first feature, then of the second, and so on.
        """
        columns = np.ascontiguousarray(rows.T)
        # bincount refuses int64 where the machine's word is 32 bit.
        indices = np.empty(columns.shape, dtype=np.intp)
        for feature, edges in enumerate(self._edges):
            indices[feature] = edges.searchsorted(columns[feature], side="right")
        for feature, values in self._categories.items():
            places = values.searchsorted(columns[feature])
            is_known = values[np.minimum(places, len(values) - 1)] == columns[feature]
            indices[feature] = np.where(is_known, places, len(values))
        indices += self.offsets[:-1, np.newaxis]
        finite = np.isfinite(columns)
        flat = indices.ravel() if finite.all() else indices[finite]
        return np.bincount(flat, minlength=self.size).astype(np.int64, copy=False)


def normal_scores(reference_counts: Int64) -> Float64:
    """Return the normal score of each bin's middle in the reference.

    Args:
        reference_counts: int64 [bins], with a positive sum.

    Returns:
        float64 [bins], standardised to mean 0 and variance 1 under the reference.

    >>> normal_scores(np.array([1, 1], np.int64)).tolist()
    [-1.0, 1.0]
    """
    # Here, as a device never scores: with fractions and decimal it takes half a MiB.
    from statistics import NormalDist

    total = float(reference_counts.sum())
    upper = np.cumsum(reference_counts) / total
    middle = np.clip(upper - reference_counts / (2 * total), 1e-6, 1 - 1e-6)
    normal = NormalDist()
    scores = np.array([normal.inv_cdf(float(one)) for one in middle])
    shares = reference_counts / total
    scores -= float(shares @ scores)
    spread = float(shares @ scores**2)
    return scores / np.sqrt(spread) if spread > 0 else scores


def location_contrast(counts: Int64, scores: Float64) -> float:
    """Return how far ``counts`` lie from the reference, in reference sd.

    Args:
        counts: int64 [bins], with a positive sum.
        scores: The reference's ``normal_scores``.

    >>> location_contrast(np.array([0, 4], np.int64), np.array([-1.0, 1.0]))
    1.0
    """
    return float(counts @ scores) / float(counts.sum())


def scale_contrast(counts: Int64, scores: Float64) -> float:
    """Return the excess variance of ``counts`` over the reference, in reference sd².

    Args:
        counts: int64 [bins], with a positive sum.
        scores: The reference's ``normal_scores``.

    >>> scale_contrast(np.array([0, 4], np.int64), np.array([-1.0, 1.0]))
    -1.0
    """
    total = float(counts.sum())
    mean = float(counts @ scores) / total
    return float(counts @ scores**2) / total - mean**2 - 1.0
