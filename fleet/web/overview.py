# SPDX-License-Identifier: Apache-2.0
"""The overview: what needs a person, and how the fleet is.

Owns the page at ``/`` and nothing of what it shows; see ``readings``.
"""

from typing import Any

from nicegui import ui

from fleet.web.alerts_page import show_alert
from fleet.web.readings import Readings
from fleet.web.theme import card, count_text, frame, keep_fresh, pill, tile

_TOP_DRIFT = 6
_TOP_ALERTS = 8
_LARGE_SD = 2.0  # fills the bar


def add_overview(readings: Readings) -> None:
    """Register the page."""

    @ui.page("/", title="Edgeloop · overview")
    def overview() -> None:
        with frame("Overview"):
            body = ui.column().classes("w-full gap-5")

        def show(document: dict[str, Any]) -> None:
            body.clear()
            with body:
                _show_alerts(document["alerts"])
                _show_tiles(document)
                with ui.grid().classes("w-full grid-cols-1 lg:grid-cols-3 gap-5"):
                    _show_top_drift(document["drift"])
                    _show_mix(document)
                    _show_rollouts(document["rollouts"])
                show_device_rows(document["devices"])

        keep_fresh(readings.read_overview, show)


def _show_alerts(alerts: list[dict[str, Any]]) -> None:
    with ui.column().classes("w-full gap-2"):
        if not alerts:
            with ui.element("div").classes("el-strip el-good w-full"):
                ui.label("Nothing needs you.").classes("font-medium")
        for one in alerts[:_TOP_ALERTS]:
            show_alert(one)
        if len(alerts) > _TOP_ALERTS:
            more = f"{len(alerts) - _TOP_ALERTS} more alerts"
            ui.link(more, "/alerts").classes("el-dim")


def _show_tiles(document: dict[str, Any]) -> None:
    totals, devices = document["totals"], document["devices"]
    with ui.row().classes("w-full gap-5"):
        share = f"{document['online']} / {len(devices)}"
        tile("Devices online", share, "by their last authentic message")
        tile(
            "Inferences",
            count_text(totals["inferences"]),
            f"{count_text(totals['failed'])} failed, {count_text(totals['lost'])} lost",
        )
        tile(
            "Windows",
            count_text(totals["windows"]),
            f"{totals['bytes'] / 1024:,.0f} KiB received",
        )
        verdicts = document["drift"]["verdicts"]
        drifted = sum(one["kind"] != "season" for one in verdicts)
        tile("Drifted", str(drifted), "open verdicts")


def _show_top_drift(drift: dict[str, Any]) -> None:
    moves = [
        (abs(feature["mean_shift_sd"]), device["device"], device["status"], feature)
        for device in drift["devices"]
        for feature in device["features"]
    ]
    moves.sort(key=lambda one: -one[0])
    with card("Largest shifts from each device's baseline"):
        for size, device, status, feature in moves[:_TOP_DRIFT]:
            target = f"/drift?device={device}&feature={feature['name']}"
            with (
                ui.link(target=target).classes("el-link w-full"),
                ui.column().classes("w-full gap-1 py-1"),
            ):
                with ui.row().classes("w-full justify-between text-sm"):
                    ui.label(f"{device} · {feature['name']}")
                    ui.label(f"{feature['mean_shift_sd']:+.2f} sd").classes("el-code")
                colour = "var(--bad)" if status == "drifted" else "var(--dim)"
                width = min(100.0, 100 * size / _LARGE_SD)
                with ui.element("div").classes("el-bar w-full"):
                    ui.element("div").style(
                        f"width:{width:.0f}%;height:100%;background:{colour}"
                    )
        if not moves:
            ui.label("No unit of windows is complete yet.").classes("el-dim")


def _show_mix(document: dict[str, Any]) -> None:
    total = max(len(document["devices"]), 1)
    with card("Models that serve"):
        for name, count in document["mix"]:
            with ui.row().classes("w-full justify-between text-sm"):
                ui.label(name)
                ui.label(f"{count} of {total}").classes("el-code")
            with ui.element("div").classes("el-bar w-full"):
                ui.element("div").style(
                    f"width:{100 * count / total:.0f}%;height:100%;"
                    "background:var(--good)"
                )
        if not document["mix"]:
            ui.label("No device yet: edge-fleet device add").classes("el-dim")


def _show_rollouts(rollouts: list[dict[str, Any]]) -> None:
    with card("Rollouts"):
        for one in rollouts:
            with ui.column().classes("w-full gap-1 py-1"):
                with ui.row().classes("w-full justify-between items-center"):
                    ui.label(one["model"]).classes("text-sm font-medium")
                    pill(one["state"])
                phases = " → ".join(
                    f"{phase['kind']} {phase['state']}" for phase in one["phases"]
                )
                ui.label(phases).classes("el-dim")
                if one["accepted"]:
                    ui.label(f"accepted: {one['accepted']}").classes("el-dim")
        if not rollouts:
            ui.label("None yet: edge-fleet rollout create").classes("el-dim")


def show_device_rows(devices: list[dict[str, Any]]) -> None:
    """Show one row a device, each a link to its page."""
    with card("Devices", "w-full"), ui.column().classes("w-full gap-0"):
        for one in devices:
            with (
                ui.link(target=f"/device/{one['id']}").classes("el-link w-full"),
                ui.row().classes("el-row w-full items-center no-wrap gap-4"),
            ):
                on = " el-dot-on" if one["online"] else ""
                ui.element("div").classes("el-dot" + on)
                ui.label(one["id"]).classes("font-medium w-40 truncate")
                ui.label(one["model"]).classes("el-dim w-48 truncate")
                ui.label(f"{count_text(one['windows'])} windows").classes("el-dim w-32")
                ui.label(f"{count_text(one['inferences'])} inferences").classes(
                    "el-dim w-40"
                )
                ui.space()
                pill(one["drift_status"])
