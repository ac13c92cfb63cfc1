# SPDX-License-Identifier: Apache-2.0
"""Private windows: what noise must hide, and what can be read from noised counts.

Owns docs/spec/windows.md, section "Private windows": the sensitivity of a window, and
the moments that a receiver derives from noised bins. Drawing the noise is the device's
matter; see ``edge_agent.stats.noise``.
"""

import numpy as np

from edge_contract.binning import Float64, Int64, normal_scores
from edge_contract.errors import WindowError
from edge_contract.profile import Layout, ReferenceProfile


def sensitivity(layout: Layout, rows_an_inference: int) -> int:
    """Return by how much one inference more changes a window's counts in all (L1).

    Each of its rows is counted once a feature (in a bin or as missing) and once among
    the rows; its outputs once in each of their parts; and itself once.

    Args:
        layout: Of the counts.
        rows_an_inference: Most rows that one inference adds.

    >>> sensitivity(Layout((0, 16, 32), 3), 1)
    7
    """
    return rows_an_inference * (layout.features + 1) + len(layout.outputs) + 1


def check_noised(counts: Int64, layout: Layout) -> None:
    """Refuse counters that noise does not cover.

    Raises:
        WindowError: ``below``, ``above`` or ``repeat`` is not zero.
    """
    uncovered = counts[layout.below.start : layout.repeat.stop]
    if uncovered.any():
        msg = "private window: expected no range and no repeat counters"
        raise WindowError(msg)


def derive_moments(
    rows: int, counts: Int64, profile: ReferenceProfile
) -> tuple[Float64, Float64]:
    """Return the mean and m2 of each feature that noised bins suggest, float64 [F].

    Each bin counts as the normal score of its middle in the reference, in the unit of
    the reference's standard deviation: a window that looks like the reference gets the
    reference's mean and variance, whatever their distribution.

    Args:
        rows: Rows, noised like the counts.
        counts: int64 [layout.size], of either sign.
        profile: Their reference profile.
    """
    layout = profile.layout
    valid = np.maximum(rows - counts[layout.missing], 0)
    mean, m2 = np.zeros(layout.features), np.zeros(layout.features)
    for index, one in enumerate(profile.features):
        bins = counts[layout.bins(index)]
        total = max(int(bins.sum()), 1)
        scores = normal_scores(one.counts)
        location = float(np.clip(bins @ scores / total, scores.min(), scores.max()))
        spread = max(float(bins @ scores**2) / total - location**2, 0.0)
        mean[index] = one.mean + one.sd * location
        m2[index] = one.sd**2 * spread * valid[index]
    return mean, m2
