# SPDX-License-Identifier: Apache-2.0
"""A stream of labels: more errors than confidence promised, and since when.

Owns the evidence for ``concept``. The decision is a betting e-process against the error
rate that the labels' own confidence bins had on the reference: inputs that have become
harder lower confidence, and are no concept drift. ADWIN (Bifet and Gavalda, SDM 2007)
and HDDM_W (Frias-Blanco et al., IEEE TKDE 2015), both of river, say when the error rate
changed. Nothing is stored: the same windows give the same stream again.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from river.drift import ADWIN
from river.drift.binary import HDDMW

from edge_contract.binning import Float64, Int64
from edge_contract.evidence import Feedback
from fleet.drift.labelled import ErrorEvidence

TOLERANCE: Final = 0.02  # points of errors that are in order beside what was promised
_RATES: Final = (0.001, 0.9)  # a promise of never or always leaves nothing to bet on
_MOST_BITS: Final = 2000  # of one window, for the detectors


@dataclass
class ErrorStream:
    """The labels of one device or fleet under one reference profile, in order.

    Attributes:
        promises: float64 [16], error rate of each confidence bin on the reference; None
            where the reference has no labels.
        evidence: Since the estimated change: it starts anew whenever the labels so far
            speak for the promise, so that a long good time does not hide a bad one.
        expected: Errors that were promised to the labels of ``evidence``.
        changes: Number of the label at which each detector last saw errors rise.
    """

    promises: Float64 | None
    labels: int = 0
    errors: int = 0
    expected: float = 0.0
    evidence: ErrorEvidence = field(default_factory=lambda: ErrorEvidence(TOLERANCE))
    changes: dict[str, int] = field(default_factory=dict)
    _adwin: ADWIN = field(default_factory=ADWIN)
    _hddm: HDDMW = field(default_factory=HDDMW)

    def add(self, feedback: Feedback) -> None:
        """Take in the labels of one more window; their order inside it is not known."""
        labels, errors = int(feedback.labels.sum()), int(feedback.errors.sum())
        if not labels:
            return
        if self.promises is not None:
            if self.evidence.e_value <= 1:
                self.evidence, self.expected = ErrorEvidence(TOLERANCE), 0.0
            promised = float(feedback.labels @ self.promises) / labels
            self.expected += promised * labels
            rate = float(np.clip(promised + TOLERANCE, *_RATES))
            self.evidence = self.evidence.add(labels, errors, rate)
        self._detect(labels, errors)
        self.labels += labels
        self.errors += errors

    @property
    def known(self) -> ErrorEvidence | None:
        """The evidence beside what was promised on average; None without a promise."""
        if self.promises is None or not self.evidence.labels:
            return None
        promised = self.expected / self.evidence.labels + TOLERANCE
        return replace(self.evidence, promised=min(promised, _RATES[1]))

    @property
    def changed_labels_ago(self) -> int | None:
        """How many labels ago a detector last saw errors rise; None: never."""
        return self.labels - max(self.changes.values()) if self.changes else None

    def _detect(self, labels: int, errors: int) -> None:
        bits = min(labels, _MOST_BITS)
        wrong = round(bits * errors / labels)
        for number in range(bits):
            # Errors evenly among the labels.
            is_wrong = (number + 1) * wrong // bits > number * wrong // bits
            before = float(self._adwin.estimation)
            self._adwin.update(float(is_wrong))
            self._hddm.update(is_wrong)
            place = self.labels + round((number + 1) * labels / bits)
            if self._adwin.drift_detected and self._adwin.estimation > before:
                self.changes["ADWIN"] = place
            if self._hddm.drift_detected and is_wrong:
                self.changes["HDDM_W"] = place


def promised_errors(counts: Int64, correct: Int64) -> Float64 | None:
    """Return the error rate that each confidence bin had on the reference.

    Args:
        counts: int64 [16], outputs of the reference.
        correct: int64 [16], those that were right.

    Returns:
        float64 [16], None where the reference has no labels. One pseudo-output of the
        whole a bin: an empty bin knows nothing of its own.

    >>> promised = promised_errors(np.array([9, 0]), np.array([6, 0]))
    >>> [round(float(one), 2) for one in promised]
    [0.33, 0.33]
    """
    behind = int(counts.sum())
    if behind == 0 or int(correct.sum()) == 0:
        return None
    overall = float(correct.sum() / behind)
    rates: Float64 = 1 - (correct + overall) / (counts + 1)
    return rates
