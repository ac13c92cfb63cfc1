# SPDX-License-Identifier: Apache-2.0
"""The alerts page: what is open, what is muted, what has closed.

Owns the page at ``/alerts`` and how one alert looks. What people do about alerts goes
through REST and command line, which know who they are.
"""

from typing import Any

from nicegui import ui

from fleet.web.readings import Readings
from fleet.web.theme import card, frame, keep_fresh, pill, time_text


def add_alerts_page(readings: Readings) -> None:
    """Register the page."""

    @ui.page("/alerts", title="Edgeloop · alerts")
    def alerts() -> None:
        with frame("Alerts"):
            body = ui.column().classes("w-full gap-5")

        def show(document: dict[str, Any]) -> None:
            body.clear()
            with body:
                _show_open(document["open"])
                _show_mutes(document["mutes"])
                _show_closed(document["closed"])

        keep_fresh(readings.read_alerts, show)


def show_alert(alert: dict[str, Any]) -> None:
    """Show one open alert as a strip that leads to its page."""
    with ui.link(target=alert["link"]).classes(f"el-strip el-{alert['level']} w-full"):
        ui.label(alert["title"]).classes("font-medium")
        ui.label(alert["next_step"]).classes("el-code")
        seen = f", seen by {alert['acked_by']}" if alert["acked_by"] else ""
        ui.label(
            f"alert {alert['id']} · {alert['rule']} · {alert['fleet']} · "
            f"since {time_text(alert['opened_us'])}{seen}"
        ).classes("el-dim")


def _show_open(alerts: list[dict[str, Any]]) -> None:
    with ui.column().classes("w-full gap-2"):
        for one in alerts:
            show_alert(one)
        if not alerts:
            with ui.element("div").classes("el-strip el-good w-full"):
                ui.label("Nothing needs you.").classes("font-medium")
    ui.label(
        "An alert closes by itself. edge-fleet alert ack, note, mute and unmute change "
        "who is told."
    ).classes("el-dim")


def _show_mutes(mutes: list[dict[str, Any]]) -> None:
    if not mutes:
        return
    with card("Muted: opened, and nobody is told", "w-full"):
        for one in mutes:
            with ui.row().classes("el-row w-full items-center justify-between"):
                ui.label(f"{one['fleet']} · {one['rule']} · {one['subject']}")
                ui.label(one["reason"]).classes("el-dim")
                ui.label(f"until {time_text(one['until_us'])}").classes("el-code")


def _show_closed(alerts: list[dict[str, Any]]) -> None:
    with card("Closed", "w-full"):
        for one in alerts:
            with ui.row().classes("el-row w-full items-center gap-4 no-wrap"):
                ui.label(time_text(one["closed_us"])).classes("el-code w-44")
                pill(one["level"])
                ui.label(one["title"]).classes("text-sm")
        if not alerts:
            ui.label("None yet.").classes("el-dim")
