# SPDX-License-Identifier: Apache-2.0
"""A fleetwide verdict in words and as a document.

Owns the sentences, so that command line, REST API and dashboard say the same: what
moved, how sure that is, how large, what to do next, and what it does not say. Pure.
"""

import math
from typing import Any, Final

from fleet.drift.fleetwide.finding import Finding, Move
from fleet.drift.fleetwide.parameters import SLOT_SECONDS

_ACTIONS: Final = {
    "sensor_fault": "repair",
    "device": "quarantine",
    "cohort": "cohort variant",
    "deploy": "roll back",
    "world": "retrain",
    "season": "swap reference",
    "nothing": "nothing",
}
_LARGE_SHIFT = 1.0
_MAX_WORDS = 4


def describe_move(move: Move) -> str:
    """Say how one feature moved.

    >>> describe_move(Move("ax", "mean", -0.42))
    'ax: mean 0.42 sd lower'
    >>> describe_move(Move("ax", "spread", 0.7))
    'ax: spread x 2.01'
    >>> describe_move(Move("ax", "shape", 2.5, bins=(15, 0)))
    'ax: shape changed, more in bin 16, less in bin 1'
    """
    if move.channel == "mean":
        direction = "higher" if move.shift > 0 else "lower"
        return f"{move.feature}: mean {abs(move.shift):.2f} sd {direction}"
    if move.channel == "spread":
        return f"{move.feature}: spread x {math.exp(move.shift):.2f}"
    if move.channel == "shape":
        text = f"{move.feature}: shape changed"
        if move.bins is not None:
            more, less = move.bins
            text += f", more in bin {more + 1}, less in bin {less + 1}"
        return text
    words = {
        "missing": "values missing",
        "stuck": "stuck at one value",
        "outside": "values outside the range it ever had",
        "saturated": "exact repeats that it never had: saturated or quantised",
    }
    return f"{move.feature}: {words[move.channel]}"


def describe(finding: Finding) -> str:
    """Say in one to three sentences what was found."""
    moves = ", ".join(describe_move(one) for one in finding.moves[:_MAX_WORDS])
    if len(finding.moves) > _MAX_WORDS:
        moves += f" and {len(finding.moves) - _MAX_WORDS} more"
    since = finding.slot + 1 - finding.change_slot
    if finding.kind == "season":
        names = ", ".join(one.feature for one in finding.moves)
        return (
            f"The fleet has a daily season in {names}: it is predicted from earlier "
            "days and is no drift."
        )
    text = {
        "sensor_fault": f"A sensor of {finding.subject} is broken ({moves}).",
        "device": (
            f"{finding.subject} alone no longer sees what it used to ({moves}), for "
            f"about {since} windows when it was found."
        ),
        "cohort": (
            f"All {finding.devices} devices with {finding.subject} moved ({moves}), "
            f"for about {since} windows when it was found; the others did not."
        ),
        "deploy": (
            f"The {finding.devices} devices that got {finding.subject} moved ({moves}) "
            "when they got it; the others did not."
        ),
        "world": (
            f"The whole fleet moved ({moves}), for about {since} windows when it was "
            "found: the world has changed, no device is to blame."
        ),
    }[finding.kind]
    if finding.provisional:
        text += (
            " Provisional: the device has no day of its own yet and was compared with "
            "the other devices and the bundle's reference."
        )
    if not finding.is_material:
        text += " Detected, not material: too small to matter, so nothing is asked."
    return text


def recommended_action(finding: Finding) -> str:
    """Return the action, one of a closed list of words."""
    if not finding.is_material:
        return _ACTIONS["nothing"]
    if finding.provisional:
        return "collect labels"
    return _ACTIONS[finding.kind]


def finding_document(finding: Finding) -> dict[str, Any]:
    """Return all that a verdict stands on, as JSON values."""
    return {
        "summary": describe(finding),
        "features": [_move_document(one, finding) for one in finding.moves],
        "action": recommended_action(finding),
        "material": finding.is_material,
        "confidence": _confidence(finding),
        "delay_windows": finding.slot + 1 - finding.change_slot,
        "change_us": finding.change_slot * SLOT_SECONDS * 1_000_000,
        "devices": finding.devices,
        "estimated_accuracy_loss": finding.accuracy_loss,
        "streams": finding.streams,
        "run_length_windows": _round(finding.run_length_windows),
        "false_alarms": _describe_run_length(finding),
        "next_step": _next_step(finding),
    }


def _move_document(move: Move, finding: Finding) -> dict[str, Any]:
    units = {"mean": "reference sd", "spread": "log of the ratio of sd"}
    units |= dict.fromkeys(
        ("missing", "stuck", "outside", "saturated"), "share of rows"
    )
    channels = {"mean": "location", "spread": "scale"}
    document: dict[str, Any] = {
        "name": move.feature,
        "channel": channels.get(move.channel, move.channel),
        "direction": "up" if move.shift > 0 else "down",
        "size": "large" if abs(move.shift) >= _LARGE_SHIFT else "material",
        "shift": _round(move.shift),
        "shift_unit": units.get(move.channel, "score"),
        "evidence": _round(move.evidence),
        "windows": finding.slot + 1 - finding.change_slot,
        "summary": describe_move(move),
    }
    if not finding.is_material:
        document["size"] = "not material"
    if move.distance is not None:
        document["jensen_shannon"] = _round(move.distance.jensen_shannon)
        document["wasserstein_sd"] = _round(move.distance.wasserstein)
        document["psi"] = _round(move.distance.psi)
        document["rows"] = move.distance.rows
    return document


def _confidence(finding: Finding) -> str:
    if finding.kind == "sensor_fault":
        return "counted, not estimated"
    if finding.kind == "season":
        return "two days alike"
    if finding.provisional:
        return "low: no history of its own"
    if finding.kind in {"world", "cohort", "deploy"}:
        least = max((one.evidence for one in finding.moves), default=0.0)
        return f"{least:.0f} standard errors of a median"
    most = max((one.evidence for one in finding.moves), default=0.0)
    return f"e-value {most:.3g}"


def _describe_run_length(finding: Finding) -> str:
    if finding.run_length_windows <= 0:
        return "no error rate: this is counted, or compared once"
    days = finding.run_length_windows * SLOT_SECONDS / 86_400
    return (
        f"without a change, {finding.streams} streams together pass alone about once "
        f"in {days:.0f} days, as far as their history foretells them (lag-1 "
        "correlation up to 0.6 was measured)"
    )


def _next_step(finding: Finding) -> str:
    if not finding.is_material or finding.kind == "season":
        return "nothing"
    subject = finding.subject
    if finding.kind == "sensor_fault":
        return f"look at {subject} on site; its statistics stay out until it counts"
    if finding.kind == "device":
        return (
            f"look at the drift page of {subject}; then ask it for samples: "
            f"edge-fleet sample request {subject}"
        )
    if finding.kind == "deploy":
        return "compare the releases; if it is unwanted: edge-fleet rollout list"
    return "ask some of its devices for samples, label them, and retrain"


def _round(value: float) -> float:
    return float(f"{value:.4g}")
