# SPDX-License-Identifier: Apache-2.0
"""How long to wait before trying again: doubling, bounded, jittered."""

from random import Random
from typing import Final

_MOST_DOUBLINGS: Final = 16


def retry_delay_seconds(failures: int, longest_seconds: float, random: Random) -> float:
    """Return the pause after ``failures`` failures in a row, at least 1.

    From half a second to a second after the first, twice as long after each other one,
    up to ``longest_seconds``; jittered, so that devices do not come back all at once.

    >>> 2 <= retry_delay_seconds(3, 60, Random(1)) <= 4
    True
    """
    doublings = min(failures - 1, _MOST_DOUBLINGS)
    return min(longest_seconds, 2.0**doublings) * random.uniform(0.5, 1)
