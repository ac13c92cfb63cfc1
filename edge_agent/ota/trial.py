# SPDX-License-Identifier: Apache-2.0
"""Trial rules: when a release on live traffic has proved itself.

Pure: fed one verdict an inference, it says commit, go back, or go on.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray


class TrialVerdict(Enum):
    """What follows from the inferences so far."""

    GO_ON = "go on"
    COMMIT = "commit"
    ROLL_BACK = "roll back"


@dataclass
class Trial:
    """Counts inferences of a release on trial.

    Args:
        needed: Inferences with finite outputs that prove it. One that fails, or gives
            an output that is not finite, condemns it.
    """

    needed: int
    good: int = 0
    reason: str = ""

    @property
    def verdict(self) -> TrialVerdict:
        """What follows from what was seen."""
        if self.reason:
            return TrialVerdict.ROLL_BACK
        return TrialVerdict.COMMIT if self.good >= self.needed else TrialVerdict.GO_ON

    def observe(self, output: NDArray[np.float32] | None) -> TrialVerdict:
        """Take one inference's output, None where it failed.

        >>> trial = Trial(needed=2)
        >>> trial.observe(np.zeros(3, np.float32)).value
        'go on'
        >>> trial.observe(np.full(3, np.nan, np.float32)).value
        'roll back'
        """
        if output is None:
            self.reason = self.reason or "inference-failed"
        elif not np.isfinite(output).all():
            self.reason = self.reason or "output-not-finite"
        else:
            self.good += 1
        return self.verdict
