# SPDX-License-Identifier: Apache-2.0
"""What went wrong at a source or sink: counted each time, said once a minute.

Owns the counters that it shows in the status. A broken neighbour would otherwise
fill the log at its own rate.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

SILENCE_SECONDS: Final = 60.0
MAX_PROBLEM: Final = 300
_LOG = logging.getLogger(__name__)


class Tally:
    """Counters of one source or sink, and its last problem.

    Args:
        name: What to call it in the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts: Counter[str] = Counter()
        self._problem = ""
        self._said: dict[str, float] = {}

    @property
    def account(self) -> Mapping[str, int | str]:
        """The counters by name, and the last problem; see ``flow.Accountable``."""
        found: dict[str, int | str] = dict(self._counts)
        return {**found, "problem": self._problem} if self._problem else found

    def count(self, what: str, by: int = 1) -> None:
        """Count something that is no problem."""
        self._counts[what] += by

    def complain(self, what: str, problem: object) -> None:
        """Count a problem of the kind ``what``; log it unless that was done lately."""
        self._counts[what] += 1
        self._problem = str(problem)[:MAX_PROBLEM]
        now = time.monotonic()
        if now - self._said.get(what, -SILENCE_SECONDS) >= SILENCE_SECONDS:
            self._said[what] = now
            number = self._counts[what]
            _LOG.warning("%s: %s (%s: %d)", self._name, self._problem, what, number)
