# SPDX-License-Identifier: Apache-2.0
"""The rollouts: where each stands, phase by phase, and on what evidence.

Owns the page at ``/rollouts``. It only shows; people act with the command line, where
the server knows them by name.
"""

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from fleet.web.readings import Readings
from fleet.web.theme import card, frame, keep_fresh, pill

_COUNTS = ("succeeded", "failed", "late", "in_progress", "unknown", "already")


def add_rollouts_page(readings: Readings) -> None:
    """Register the page."""

    @ui.page("/rollouts", title="Edgeloop · rollouts")
    def rollouts() -> None:
        with frame("Rollouts"):
            body = ui.column().classes("w-full gap-5")

        def show(found: list[dict[str, Any]]) -> None:
            body.clear()
            with body:
                if not found:
                    ui.label("None yet: edge-fleet rollout create").classes("el-dim")
                for one in found:
                    _show_rollout(one)

        keep_fresh(readings.read_rollouts, show)


def _show_rollout(rollout: dict[str, Any]) -> None:
    settings = rollout["settings"]
    where = f" where {settings['where']}" if settings["where"] else ""
    title = f"{rollout['id']} · fleet {rollout['fleet']}, slot {rollout['slot']}{where}"
    with card(title, "w-full"):
        with ui.row().classes("items-center gap-3"):
            ui.label(rollout["model"]).classes("text-base font-medium")
            pill(rollout["state"])
            ui.label(f"by {rollout['created_by']}").classes("el-dim")
        for text in find_notes(rollout):
            ui.label(text).classes("text-sm")
        for phase in rollout["phases"]:
            _show_phase(phase)


def find_notes(rollout: Mapping[str, Any]) -> list[str]:
    """Return why a rollout stands where it does, and what people said."""
    pending = rollout["settings"]["pending"]
    notes = [rollout["reason"]] if rollout["reason"] else []
    if pending is not None:
        notes.append(
            f"{pending['action']} waits for a second person: asked by {pending['by']},"
            f" edge-fleet rollout approve {rollout['id']}"
        )
    if rollout["accepted"]:
        notes.append(f"insufficient evidence was accepted: {rollout['accepted']}")
    return notes


def describe_phase(phase: Mapping[str, Any]) -> str:
    """Return whom a phase means.

    >>> describe_phase({"kind": "percent", "settings": {"amount": 10, "query": ""}})
    '10 % of the devices'
    """
    settings = phase["settings"]
    return {
        "canary": f"{settings['amount']} devices first",
        "query": f"devices with {settings['query']}",
        "percent": f"{settings['amount']} % of the devices",
        "all": "all devices",
    }[str(phase["kind"])]


def _show_phase(phase: dict[str, Any]) -> None:
    gate = phase["gate"]
    with ui.column().classes("el-row w-full gap-1"):
        with ui.row().classes("w-full items-center justify-between"):
            ui.label(describe_phase(phase)).classes("text-sm font-medium")
            pill(phase["state"])
        if gate is None:
            return
        ui.label(gate["words"]).classes("el-dim")
        counts = [f"{gate[name]} {name.replace('_', ' ')}" for name in _COUNTS]
        bound = float(gate["failure_upper_bound"])
        ui.label(f"{', '.join(counts)}; failure rate at most {bound:.1%}").classes(
            "el-code"
        )
        for one in (gate["health"] or {"comparisons": ()})["comparisons"]:
            ui.label(_describe_comparison(one)).classes("el-code")


def _describe_comparison(one: Mapping[str, Any]) -> str:
    figures = ""
    if one["worse_by"] is not None:
        figures = (
            f" worse by {one['worse_by']} ({one['lower']} to {one['upper']}),"
            f" tolerated {one['margin']} {one['unit']},"
        )
    standing = one["standing"].replace("_", " ")
    sides = f"{one['treated']} devices beside {one['control']}"
    return f"{one['figure']}:{figures} {sides}: {standing}"
