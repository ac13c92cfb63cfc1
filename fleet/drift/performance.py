# SPDX-License-Identifier: Apache-2.0
"""What kind of loss a model suffers, from what is known about its outputs.

Owns the kinds ``label_shift``, ``concept`` and ``quantization``: each needs an input
that not every fleet has, and says which one is missing. Pure.
"""

from dataclasses import dataclass
from typing import Final, Literal

from fleet.drift.accuracy import AccuracyEstimate
from fleet.drift.label_shift import LabelShift
from fleet.drift.labelled import ErrorEvidence

# e-value: at least so many windows of a stream between false verdicts on average.
CERTAIN: Final = 1e4
_LEAST_LABEL_SHIFT = 0.1
_MOST_UNEXPLAINED = 0.05

LossKind = Literal["label_shift", "concept", "quantization"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss and its cause.

    Attributes:
        kind: Which.
        summary: One sentence.
        action: What is recommended.
    """

    kind: LossKind
    summary: str
    action: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known; None where the input is missing.

    Attributes:
        accuracy: Needs a reference with labels.
        shift: Needs the reference's confusion matrix.
        feedback: Needs labels of live inferences.
        shadow: Needs a float model that runs beside the quantized one.
    """

    accuracy: AccuracyEstimate | None = None
    shift: LabelShift | None = None
    feedback: ErrorEvidence | None = None
    shadow: ErrorEvidence | None = None


def find_losses(known: Known) -> list[Loss]:
    """Return the losses that are certain, the most specific first."""
    losses = []
    shadow, feedback, shift = known.shadow, known.feedback, known.shift
    if shadow is not None and shadow.e_value >= CERTAIN:
        share = shadow.errors / max(shadow.labels, 1)
        text = (
            f"The quantized model differs from its float original on {share:.1%} of "
            f"{shadow.labels:,} outputs; {shadow.promised:.1%} was promised."
        )
        losses.append(Loss("quantization", text, "another variant"))
    if feedback is not None and feedback.e_value >= CERTAIN:
        share = feedback.errors / max(feedback.labels, 1)
        seen = known.accuracy is not None and known.accuracy.is_material
        if not seen:
            text = (
                f"{share:.1%} of {feedback.labels:,} labelled inferences are wrong, "
                f"{feedback.promised:.1%} was promised, and confidence does not show "
                "it: what the inputs mean has changed."
            )
            losses.append(Loss("concept", text, "retrain"))
    if shift is not None and _is_label_shift(shift):
        text = (
            f"The mix of classes has changed by {shift.distance:.0%}: no input "
            "changed beyond it."
        )
        losses.append(Loss("label_shift", text, "swap reference"))
    return losses


def missing_inputs(known: Known) -> list[str]:
    """Say which kinds cannot be judged, and why."""
    needs = (
        (known.accuracy, "estimated accuracy: the reference has no labels"),
        (known.shift, "label_shift: the reference has no confusion matrix"),
        (known.feedback, "concept: no live inference was labelled"),
        (known.shadow, "quantization: no float model runs beside the quantized one"),
    )
    return [text for found, text in needs if found is None]


def _is_label_shift(shift: LabelShift) -> bool:
    explained = shift.unexplained <= _MOST_UNEXPLAINED
    return shift.distance >= _LEAST_LABEL_SHIFT and explained
