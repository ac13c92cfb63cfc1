# SPDX-License-Identifier: Apache-2.0
"""What a shadow made of the inputs of one window.

Owns the difference between two readings of a shadow's tally, which only grows. It runs
no model; see ``runtime.shadow``.
"""

from collections.abc import Callable

from edge_contract.evidence import Shadow


class Comparison:
    """Reads a tally whenever a window closes.

    Attributes:
        tally: Returns what was compared so far; None while nothing is.
    """

    def __init__(self) -> None:
        self.tally: Callable[[], Shadow | None] = lambda: None
        self._told: Shadow | None = None

    def take(self) -> Shadow | None:
        """Return what was compared since the last call; None without a shadow.

        A shadow that rests is told too, with nothing compared: an outbox merges windows
        of one shadow only.

        >>> comparison = Comparison()
        >>> comparison.tally = lambda: Shadow(bytes(8), 5, 2)
        >>> [one.compared for one in (comparison.take(), comparison.take())]
        [5, 0]
        """
        before, now = self._told, self.tally()
        self._told = now
        if now is None or before is None or before.release != now.release:
            return now
        if before.compared > now.compared:
            return now
        compared = now.compared - before.compared
        # The two numbers are read while they grow: a disagreement may come ahead.
        disagreed = min(max(now.disagreed - before.disagreed, 0), compared)
        return Shadow(now.release, compared, disagreed)
