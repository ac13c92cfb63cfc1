# SPDX-License-Identifier: Apache-2.0
"""What the search asks of a candidate, and how long it may ask.

Owns the seam ``Judge`` and the limits. The driver decides nothing by itself that a
judge has not measured; the one that measures is ``assess.measuring``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from converter.candidate import Candidate


class Judge(Protocol):
    """Measures candidates of one runtime."""

    def sqnr_db(self, candidate: Candidate) -> float:
        """Return the outputs' SQNR against float on a few probe frames, in dB."""

    def is_accepted(self, candidate: Candidate) -> bool:
        """Return whether the metric's drop is proven within the budget."""

    def cost_ratio(self, candidate: Candidate, base: Candidate) -> float:
        """Return the candidate's cost over that of ``base``, as the objective counts.

        Latency is timed in turns on this host; size is exact.
        """


@dataclass(frozen=True)
class Limits:
    """How long a search goes on, and what reverts may cost.

    Attributes:
        deadline: When the search ends, in seconds of ``now``.
        now: A monotonic clock.
        revert_cost: How much more than the candidate without reverts one with them
            may cost, and how much larger it may be, as a share, where reverts are for
            quality and the metric does not need them.
    """

    deadline: float
    now: Callable[[], float]
    revert_cost: float

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return self.now() >= self.deadline
