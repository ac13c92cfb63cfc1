# SPDX-License-Identifier: Apache-2.0
"""How a verdict and what is known of a model look.

Owns these pieces of the drift page. The sentences come from the drift engine.
"""

from typing import Any, Final

from nicegui import ui

from fleet.web.theme import card, count_text, time_text

_NAMES: Final = {
    "sensor_fault": "sensor fault",
    "label_shift": "label shift",
    "deploy": "release",
}
_FIGURES: Final = ("jensen_shannon", "wasserstein_sd", "psi")
_MOST_CLASSES: Final = 8


def show_verdict(verdict: dict[str, Any]) -> None:
    """Show one open verdict: kind, words, evidence, and what can be done."""
    kind = verdict["kind"]
    tone = "el-good" if kind == "season" else "el-serious"
    if verdict["provisional"]:
        tone = "el-notice"
    with ui.element("div").classes(f"el-strip {tone} w-full"):
        with ui.row().classes("items-center gap-3 w-full no-wrap"):
            ui.label(_NAMES.get(kind, kind)).classes("el-kind")
            ui.label(verdict["summary"]).classes("font-medium")
        ui.label(_describe(verdict)).classes("el-dim")
        facts = _describe_facts(verdict)
        if facts:
            ui.label(facts).classes("el-dim")
        ui.label(f"Next: {verdict['next_step']}.").classes("el-dim")
        for command in verdict["commands"]:
            ui.label(command).classes("el-code")


def show_performance(models: list[dict[str, Any]]) -> None:
    """Show what is known of the errors of each model, and what is missing."""
    for one in models:
        title = f"Model under reference {one['ref_id']} in {one['fleet']}"
        with card(title, "w-full"):
            for line in describe_performance(one):
                ui.label(line).classes("text-sm")
            for text in one["missing"]:
                ui.label(f"Not known: {text}.").classes("el-dim")


def describe_performance(one: dict[str, Any]) -> list[str]:
    """Say what is known of a model, a line each."""
    lines = []
    accuracy = one["accuracy"]
    if accuracy is not None:
        text = (
            f"Estimated accuracy {accuracy['cbpe']:.1%} by confidence (CBPE), "
            f"{accuracy['atc']:.1%} by threshold (ATC); {accuracy['reference']:.1%} on "
            f"the reference. {count_text(accuracy['inferences'])} inferences of "
            f"{one['devices']} devices within {one['hours']} hours."
        )
        if accuracy["is_doubtful"]:
            text += " The two estimates disagree: believe neither."
        lines.append(text)
    if one["labels"]:
        detectors = " and ".join(one["detectors"])
        seen = f"; {detectors} saw errors rise" if detectors else ""
        evidence = "" if one["evidence"] is None else f", e-value {one['evidence']:.3g}"
        lines.append(
            f"{count_text(one['errors'])} of {count_text(one['labels'])} labels "
            f"contradict the model{evidence}{seen}."
        )
    compared = sum(shadow["compared"] for shadow in one["shadows"])
    if compared:
        disagreed = sum(shadow["disagreed"] for shadow in one["shadows"])
        lines.append(
            f"Shadows answer {count_text(disagreed)} of {count_text(compared)} inputs "
            "otherwise."
        )
    return lines


def _describe(verdict: dict[str, Any]) -> str:
    seen = f", seen by {verdict['acked_by']}" if verdict["acked_by"] else ""
    confidence = verdict.get("confidence")
    parts = [
        f"verdict {verdict['id']} on {verdict['subject']}",
        f"since {time_text(verdict['opened_us'])}{seen}",
        f"recommended: {verdict['action']}" if "action" in verdict else "",
        f"confidence: {confidence}" if confidence else "",
    ]
    return " · ".join(part for part in parts if part)


def _describe_facts(verdict: dict[str, Any]) -> str:
    facts = verdict.get("facts", {})
    classes = sorted(
        facts.get("classes", []), key=lambda one: -abs(one["now"] - one["before"])
    )
    parts = [
        f"{one['label']} {one['before']:.0%} → {one['now']:.0%}"
        for one in classes[:_MOST_CLASSES]
    ]
    for move in verdict["features"]:
        figures = [
            f"{name.split('_')[0]} {move[name]}" for name in _FIGURES if name in move
        ]
        if figures:
            parts.append(f"{move['name']}: {', '.join(figures)}")
    if facts.get("changed_labels_ago") is not None:
        parts.append(f"errors rose about {facts['changed_labels_ago']} labels ago")
    return "; ".join(parts)
