# SPDX-License-Identifier: Apache-2.0
"""A loss of a model as a verdict's document.

Owns what ``label_shift``, ``concept`` and ``quantization`` say beside their sentence,
and the document of what is known of a model. Pure.
"""

from typing import Any, Final

from edge_contract.profile import OutputReference, ReferenceProfile
from fleet.drift.accuracy import AccuracyEstimate
from fleet.drift.error_stream import ErrorStream
from fleet.drift.mixture import Lean
from fleet.drift.performance import Known, Loss, missing_inputs

_MOST_SHADOWS: Final = 200
_STEPS: Final = {
    "label_shift": (
        "compare with what you know of the world; if it stays, build the model's "
        "reference profile on data of today"
    ),
    "concept": (
        "ask for more labels: edge-fleet drift labels {who}; then retrain on them"
    ),
    "quantization": "roll out another variant: edge-convert explain BUNDLE",
}


def loss_document(
    loss: Loss,
    *,
    who: str,
    confidence: str,
    devices: int,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Return all that a verdict on a loss stands on, as JSON values.

    Args:
        loss: What was found.
        who: A device to ask, or a word for one.
        confidence: How sure, in words.
        devices: How many devices it speaks about.
        facts: The figures.
    """
    return {
        "summary": loss.summary,
        "features": [],
        "action": loss.action,
        "material": True,
        "confidence": confidence,
        "devices": devices,
        "facts": facts,
        "false_alarms": (
            "an e-value of 10,000: without a change no sooner than after 10,000 "
            "windows with labels on average"
            if loss.kind != "label_shift"
            else "a sign test over devices: one in a hundred looks, and ten points"
        ),
        "next_step": _STEPS[loss.kind].format(who=who),
    }


def accuracy_document(estimate: AccuracyEstimate | None) -> dict[str, Any] | None:
    """Return an estimate as JSON values."""
    if estimate is None:
        return None
    names = ("reference", "cbpe", "atc", "loss", "least_loss")
    return {
        **{name: round(getattr(estimate, name), 4) for name in names},
        "inferences": estimate.inferences,
        "is_material": estimate.is_material,
        "is_doubtful": estimate.is_doubtful,
    }


def describe_confidence(loss: Loss, known: Known, lean: Lean | None) -> str:
    """Say how sure a loss is."""
    if loss.kind == "label_shift" and lean is not None:
        return f"{lean.devices} of {lean.judged} devices lean the same way"
    evidence = known.shadow if loss.kind == "quantization" else known.feedback
    return f"e-value {0.0 if evidence is None else evidence.e_value:.3g}"


def loss_facts(
    loss: Loss, known: Known, stream: ErrorStream, profile: ReferenceProfile
) -> dict[str, Any]:
    """Return the figures behind a loss of a fleet."""
    if loss.kind == "concept":
        return label_facts(stream)
    if loss.kind == "quantization" and known.shadow is not None:
        return {"compared": known.shadow.labels, "disagreed": known.shadow.errors}
    outputs, shift = profile.outputs, known.shift
    if shift is None or not isinstance(outputs, OutputReference):
        return {}
    triples = zip(outputs.labels, shift.before, shift.shares, strict=True)
    return {
        "classes": [
            {"label": name, "before": round(float(a), 4), "now": round(float(b), 4)}
            for name, a, b in triples
        ],
        "distance": round(shift.distance, 4),
        "unexplained": round(shift.unexplained, 4),
    }


def label_facts(stream: ErrorStream) -> dict[str, Any]:
    """Return the figures of a stream of labels."""
    known = stream.known
    return {
        "labels": 0 if known is None else known.labels,
        "errors": 0 if known is None else known.errors,
        "promised": None if known is None else round(known.promised, 4),
        "labels_seen": stream.labels,
        "detectors": sorted(stream.changes),
        "changed_labels_ago": stream.changed_labels_ago,
    }


def performance_document(
    known: Known,
    stream: ErrorStream,
    shadows: list[dict[str, Any]],
    profile: ReferenceProfile,
) -> dict[str, Any]:
    """Return what is known of a model in a fleet, and what is missing."""
    outputs = profile.outputs
    has_confusion = (
        isinstance(outputs, OutputReference) and outputs.confusion is not None
    )
    missing = [
        text
        for text in missing_inputs(known)
        if not (has_confusion and text.startswith("label_shift"))
    ]
    feedback = known.feedback
    return {
        "accuracy": accuracy_document(known.accuracy),
        "labels": stream.labels,
        "errors": stream.errors,
        "evidence": None if feedback is None else float(f"{feedback.e_value:.3g}"),
        "detectors": sorted(stream.changes),
        "shadows": shadows[:_MOST_SHADOWS],
        "missing": missing,
    }
