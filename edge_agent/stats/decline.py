# SPDX-License-Identifier: Apache-2.0
"""A light detector of a model that errs more than before, on labels that came back.

Owns one rule: the one-sided HDDM-A test (Frías-Blanco et al., "Online and
Non-Parametric Drift Detection Methods Based on Hoeffding's Bounds", IEEE TKDE 2015,
https://doi.org/10.1109/TKDE.2014.2345382). It keeps four numbers, and begins anew after
an alarm: what follows is the new normal. The server's detectors see more; this one
needs no server.
"""

import math
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 1e-5
LEAST_LABELS: Final = 30


@dataclass(frozen=True, slots=True)
class Decline:
    """Errors before and since.

    Attributes:
        labels: Labels since the errors rose.
        error_ppm: Errors among these, in parts per million.
        error_ppm_before: Errors among those before.
    """

    labels: int
    error_ppm: int
    error_ppm_before: int


@dataclass(slots=True)
class DeclineWatch:
    """Takes labels one by one."""

    labels: int = 0
    errors: int = 0
    _best_labels: int = 0
    _best_errors: int = 0

    def add(self, *, is_error: bool) -> Decline | None:
        """Take one label; return the decline that it makes certain, if any."""
        self.labels += 1
        self.errors += is_error
        best, total = self._best_labels, self.labels
        if not best or (
            self._best_errors / best + _bound(best)
            >= self.errors / total + _bound(total)
        ):
            self._best_labels, self._best_errors = total, self.errors
            return None
        before = self._best_errors / best
        share = (total - best) / best / total
        if min(best, total - best) < LEAST_LABELS or self.errors / total - before < (
            math.sqrt(share / 2 * math.log(2 / CONFIDENCE))
        ):
            return None
        since = (self.errors - self._best_errors) / (total - best)
        found = Decline(total - best, round(since * 1e6), round(before * 1e6))
        self.labels = self.errors = self._best_labels = self._best_errors = 0
        return found


def _bound(labels: int) -> float:
    return math.sqrt(math.log(1 / CONFIDENCE) / (2 * labels))
