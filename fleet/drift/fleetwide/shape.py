# SPDX-License-Identifier: Apache-2.0
"""The third channel: what is left of a histogram beside its mean and its spread.

Owns the shape remainder. With a device's own shares ``p``, Pearson's statistic is a
squared length; the parts along ``u`` and ``u^2`` (``u`` the normal score of a bin's
middle) are projected out, because the moments say them better. What remains is
chi-squared with three degrees less than bins (Rayner and Best, Smooth Tests of Goodness
of Fit), and becomes a normal score by Wilson and Hilferty (1931).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Real

PSEUDO_ROWS: Final = 200.0
_CLIP: Final = 3.0
_LEAST_SHARE = 1e-4


@dataclass(frozen=True, eq=False)
class ShapeBasis:
    """Weights of the remainder, a column a device: float32 [F, 16, D] each."""

    inverse: Real
    first: Real
    second: Real

    def take(self, devices: Int64) -> "ShapeBasis":
        """Return the columns of some devices."""
        return ShapeBasis(
            self.inverse[..., devices],
            self.first[..., devices],
            self.second[..., devices],
        )


def own_shares(counts: Real, reference: Real) -> Real:
    """Return a device's shares: its own counts and some rows of the reference.

    Args:
        counts: float32 [F, 16, D].
        reference: float32 [F, 16], shares of the reference; 0 in padding.
    """
    prior = np.maximum(reference, np.where(reference > 0, _LEAST_SHARE, 0))
    mixed = counts + PSEUDO_ROWS * prior[..., np.newaxis]
    shares: Real = (mixed / mixed.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def make_basis(shares: Real) -> ShapeBasis:
    """Return the weights that give the remainder under ``shares`` ([F, 16, D])."""
    p = shares.astype(np.float32)
    middle = np.clip(np.cumsum(p, axis=1) - p / 2, 1e-5, 1 - 1e-5)
    u = normal_score(middle)
    root = np.sqrt(p)
    v0 = root
    v1 = _orthonormal(u * root, (v0,))
    v2 = _orthonormal(u**2 * root, (v0, v1))
    with np.errstate(divide="ignore"):
        inverse = np.where(p > 0, 1 / np.where(p > 0, p, 1), 0)
    over = np.sqrt(inverse)
    return ShapeBasis(
        inverse.astype(np.float32),
        (v1 * over).astype(np.float32),
        (v2 * over).astype(np.float32),
    )


def shape_scores(counts: Real, rows: Real, basis: ShapeBasis, width: Int64) -> Real:
    """Return the remainder as a normal score, float32 [F, D], within 3 of zero.

    Args:
        counts: float32 [F, 16, D].
        rows: float32 [F, D], their sums.
        basis: The devices' weights.
        width: int64 [F], bins; fewer than five leave no shape, the score is 0.
    """
    shares = counts / np.maximum(rows, 1)[:, np.newaxis, :]
    total = np.einsum("fbd,fbd,fbd->fd", shares, shares, basis.inverse) - 1
    first = np.einsum("fbd,fbd->fd", shares, basis.first)
    second = np.einsum("fbd,fbd->fd", shares, basis.second)
    remainder = np.maximum(rows * (total - first**2 - second**2), 0)
    degrees = np.maximum(width - 3, 1)[:, np.newaxis].astype(np.float32)
    spread = 2 / (9 * degrees)
    score = (np.cbrt(remainder / degrees) - (1 - spread)) / np.sqrt(spread)
    usable = (width >= 5)[:, np.newaxis] & (rows > 0)
    return np.where(usable, np.clip(score, -_CLIP, _CLIP), 0).astype(np.float32)


def normal_score(share: Real) -> Real:
    """Return the normal quantile (Abramowitz and Stegun 26.2.23, error < 4.5e-4).

    >>> [round(float(x), 2) for x in normal_score(np.array([0.025, 0.4, 0.975]))]
    [-1.96, -0.25, 1.96]
    """
    tail = np.minimum(share, 1 - share)
    t = np.sqrt(-2 * np.log(tail))
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    below = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    score: Real = np.where(share < 0.5, -1, 1) * (t - above / below)
    return score


def _orthonormal(vector: Real, others: tuple[Real, ...]) -> Real:
    for one in others:
        vector = vector - one * (vector * one).sum(axis=1, keepdims=True)
    length = np.sqrt((vector**2).sum(axis=1, keepdims=True))
    unit: Real = np.where(length > 1e-6, vector / np.maximum(length, 1e-6), 0)
    return unit
