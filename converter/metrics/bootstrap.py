# SPDX-License-Identifier: Apache-2.0
"""The paired bootstrap interval of a drop, for metrics that are not counts of frames.

Owns resampling (percentile interval: Efron and Tibshirani, An Introduction to the
Bootstrap, 1993): whole clusters are drawn, since frames of one recording that overlap
say the same thing twice. Seeded: the same data gives the same interval everywhere.
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from converter.tensors import Float64, Int64

RESAMPLES: Final = 2000
_SEED: Final = 20_150_401
_BLOCK_VALUES: Final = 4_000_000
_UPPER: Final = 97.5


def resample_weights(
    samples: int, clusters: Int64 | None, resamples: int = RESAMPLES
) -> Iterator[Float64]:
    """Yield blocks of weights, float64 [b, n]: how often each frame was drawn.

    Args:
        samples: n.
        clusters: int64 [n], or None where each frame is its own cluster.
        resamples: The sum of all b.
    """
    generator = np.random.Generator(np.random.PCG64(_SEED))
    members = np.arange(samples)
    if clusters is not None:
        members = np.unique(clusters, return_inverse=True)[1].ravel()
    count = int(members.max()) + 1
    block = max(1, min(resamples, _BLOCK_VALUES // max(samples, 1)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, count, size=(size, count))
        weights = np.zeros((size, count))
        np.add.at(weights, (np.arange(size)[:, np.newaxis], drawn), 1.0)
        yield weights[:, members]


def upper_bound(
    drop_of: Callable[[Float64], Float64], samples: int, clusters: Int64 | None
) -> float:
    """Return the upper end of the 95 % interval of a drop.

    Args:
        drop_of: From weights float64 [b, n] to drops float64 [b].
        samples: n.
        clusters: As in ``resample_weights``.
    """
    drops = [drop_of(one) for one in resample_weights(samples, clusters)]
    return float(np.percentile(np.concatenate(drops), _UPPER))


def samples_needed(
    samples: int, drop: float, upper: float, max_drop: float
) -> int | None:
    """Return how many frames would prove ``max_drop``, if widths shrink as 1/sqrt(n).

    >>> samples_needed(100, 0.0, 0.02, 0.01)
    400
    """
    room = max_drop - drop
    if room <= 0:
        return None
    return max(1, int(np.ceil(samples * ((upper - drop) / room) ** 2)))
