# SPDX-License-Identifier: Apache-2.0
"""The list of devices and the page of one device.

Owns the pages at ``/devices`` and ``/device/{id}``.
"""

from typing import Any

from nicegui import ui

from fleet.errors import NotFoundError
from fleet.web.charts import history_options
from fleet.web.overview import show_device_rows
from fleet.web.readings import Readings
from fleet.web.theme import card, count_text, frame, keep_fresh, pill, tile, time_text


def add_device_pages(readings: Readings) -> None:
    """Register the pages."""

    @ui.page("/devices", title="Edgeloop · devices")
    def devices() -> None:
        with frame("Devices"):
            body = ui.column().classes("w-full")

        def show(document: dict[str, Any]) -> None:
            body.clear()
            with body:
                show_device_rows(document["devices"])

        keep_fresh(readings.read_overview, show)

    @ui.page("/device/{device}", title="Edgeloop · device")
    def one_device(device: str) -> None:
        with frame("Devices"):
            body = ui.column().classes("w-full gap-5")

        def read() -> dict[str, Any] | None:
            try:
                return readings.read_device(device)
            except NotFoundError:
                return None

        def show(document: dict[str, Any] | None) -> None:
            body.clear()
            with body:
                if document is None:
                    ui.label(f"No device is called {device}.").classes("text-lg")
                    ui.link("All devices", "/devices")
                else:
                    _show_device(document)

        keep_fresh(read, show)


def _show_device(document: dict[str, Any]) -> None:
    with ui.row().classes("items-center gap-3"):
        on = " el-dot-on" if document["online"] else ""
        ui.element("div").classes("el-dot" + on)
        ui.label(document["id"]).classes("text-2xl font-semibold")
        pill(document["drift"]["status"])
        accuracy = document["drift"]["accuracy"]
        if accuracy is not None:
            text = f"about {accuracy['cbpe']:.0%} right by confidence"
            ui.label(text).classes("el-dim")
        ui.label(document["model"]).classes("el-dim")
        ui.label(document["digest"][:16]).classes("el-code")
    for verdict in document["drift"]["verdicts"]:
        if verdict["closed_us"] is None:
            target = f"/drift?device={document['id']}"
            with ui.link(target=target).classes("el-strip el-serious w-full"):
                ui.label(verdict["summary"]).classes("font-medium")
    with ui.row().classes("w-full gap-5"):
        tile(
            "Inferences",
            count_text(document["inferences"]),
            f"{count_text(document['failed'])} failed",
        )
        tile("Declared lost", count_text(document["lost"]), "after a kill, to the unit")
        tile("Windows", count_text(document["windows"]), "counted once each")
        tile("Received", f"{document['bytes'] / 1024:,.1f} KiB", "enveloped messages")
    with card("Mean of each feature over the latest windows", "w-full"):
        if document["history"]["windows"]:
            ui.echart(history_options(document["history"])).classes("w-full h-80")
        else:
            ui.label("No window has arrived yet.").classes("el-dim")
    with ui.grid().classes("w-full grid-cols-1 lg:grid-cols-2 gap-5"):
        _show_updates(document["updates"])
        _show_verdicts(document["drift"]["verdicts"])


def _show_updates(updates: list[dict[str, Any]]) -> None:
    with card("Updates"):
        for one in updates:
            with ui.row().classes("el-row w-full items-center justify-between"):
                ui.label(time_text(one["received_us"])).classes("el-code")
                ui.label(one["model"]).classes("text-sm")
                pill(one["state"].lower())
                if one["reason"]:
                    ui.label(one["reason"]).classes("el-dim w-full")
        if not updates:
            ui.label("None reported yet.").classes("el-dim")


def _show_verdicts(verdicts: list[dict[str, Any]]) -> None:
    with card("Drift verdicts"):
        for one in verdicts:
            with ui.column().classes("el-row w-full gap-1"):
                with ui.row().classes("w-full justify-between"):
                    ui.label(time_text(one["opened_us"])).classes("el-code")
                    pill("drifted" if one["closed_us"] is None else "done")
                ui.label(one["summary"]).classes("text-sm")
                if one["close_reason"]:
                    ui.label(f"closed: {one['close_reason']}").classes("el-dim")
        if not verdicts:
            ui.label("Never drifted.").classes("el-dim")
