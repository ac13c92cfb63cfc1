# SPDX-License-Identifier: Apache-2.0
"""Which streams alarm: a few together by e-BH, or one far above the fleet's budget.

Owns the alarm rule. e-BH (Wang and Ramdas, JRSS-B 2022) bounds the false share among
what is flagged, not how often a lone stream errs over a week: 10,000 streams at level
0.05 would err nine to thirteen times. So a lone stream needs the evidence that the
whole fleet would show by chance less than once a week.
"""

import numpy as np

from fleet.drift.ebh import rejection_threshold
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.parameters import SLOTS_A_WEEK, FleetwideParameters


def find_alarms(e_values: Real, pool: Bools, parameters: FleetwideParameters) -> Bools:
    """Return which streams alarm, bool of the shape of ``e_values``.

    Args:
        e_values: float32, any shape.
        pool: bool, the same shape: live streams without an open verdict or fault.
        parameters: The operating point.

    >>> e = np.array([9e6] + [1.0] * 99, np.float32)
    >>> find_alarms(e, np.ones(100, bool), FleetwideParameters()).sum()
    np.int64(1)
    >>> e = np.array([1e3] * 3 + [1.0] * 97, np.float32)
    >>> find_alarms(e, np.ones(100, bool), FleetwideParameters()).sum()
    np.int64(3)
    >>> find_alarms(e[1:], np.ones(99, bool), FleetwideParameters()).sum()
    np.int64(0)
    """
    flags = np.zeros(e_values.shape, dtype=bool)
    streams = int(pool.sum())
    # Nothing below 1 / alpha can pass e-BH, nor stand alone.
    if not streams or not (pool & (e_values >= 1 / parameters.alpha)).any():
        return flags
    live = np.where(pool, e_values, 0)
    threshold = rejection_threshold(live[pool].astype(np.float64), parameters.alpha)
    together = live >= threshold
    if together.sum() >= parameters.together:
        flags |= together
    flags |= live >= lone_threshold(streams, parameters)
    return flags


def lone_threshold(streams: int, parameters: FleetwideParameters) -> float:
    """Return the evidence that one of so many streams needs alone."""
    return max(parameters.lone, streams * SLOTS_A_WEEK / parameters.budget)
