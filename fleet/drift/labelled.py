# SPDX-License-Identifier: Apache-2.0
"""Evidence from labels: are there more errors than were promised?

Owns a betting e-process on errors (Podkopaev and Ramdas, ICLR 2022): while the error
rate is at most ``promised``, the wealth passes ``h`` with probability at most 1 in h,
whenever one looks and however the labels come. It serves labelled feedback (kind
``concept``) and outputs of a shadow model that disagree (kind ``quantization``).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

_BETS: Final = np.array([0.1, 0.2, 0.4, 0.8])  # of the largest bet that cannot ruin
_MOST_LOG = 700.0


@dataclass(frozen=True)
class ErrorEvidence:
    """Wealth of the bets.

    Attributes:
        promised: Error rate that is in order, in (0, 1).
        labels: Labels so far.
        errors: Errors so far.
        log_wealth: Logarithm of each bet's wealth.
    """

    promised: float
    labels: int = 0
    errors: int = 0
    log_wealth: tuple[float, ...] = (0.0,) * len(_BETS)

    @property
    def e_value(self) -> float:
        """The evidence: the mean wealth."""
        most = max(self.log_wealth)
        mean = float(np.mean(np.exp(np.array(self.log_wealth) - most)))
        return math.exp(min(most + math.log(mean), _MOST_LOG))

    def add(
        self, labels: int, errors: int, promised: float | None = None
    ) -> "ErrorEvidence":
        """Return the evidence after some more labels.

        Their order inside the call does not count, so neither does how they are cut.

        Args:
            labels: How many.
            errors: Those that contradict the model.
            promised: Error rate that is in order for these, in (0, 1), where it is
                another one than that of the whole.

        >>> at_rate = ErrorEvidence(0.1).add(1000, 100)
        >>> double = ErrorEvidence(0.1).add(1000, 200)
        >>> at_rate.e_value < 1, double.e_value > 1e6
        (True, True)
        """
        rate = self.promised if promised is None else promised
        bets = _BETS / rate
        gain = errors * np.log1p(bets * (1 - rate))
        gain += (labels - errors) * np.log1p(-bets * rate)
        return ErrorEvidence(
            self.promised,
            self.labels + labels,
            self.errors + errors,
            tuple(float(one) for one in np.array(self.log_wealth) + gain),
        )
