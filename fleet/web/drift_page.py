# SPDX-License-Identifier: Apache-2.0
"""The drift page: verdicts, features x devices, and what the chosen one looks like.

Owns the page at ``/drift``.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from nicegui import run, ui

from fleet.errors import NotFoundError
from fleet.web.charts import overlay_options
from fleet.web.readings import Readings
from fleet.web.theme import HIGHER, LOWER, card, frame, keep_fresh
from fleet.web.verdicts import show_performance, show_verdict

_MOST_DEVICES, _MOST_FEATURES = 12, 24
_MOST_VERDICTS = 30
_FULL_COLOUR_SD = 2.0


@dataclass
class Selection:
    """What a visitor looks at; one object a page."""

    device: str = ""
    feature: str = ""
    devices: list[str] = field(default_factory=list)


def add_drift_page(readings: Readings) -> None:
    """Register the page."""

    @ui.page("/drift", title="Edgeloop · drift")
    def drift(device: str = "", feature: str = "") -> None:
        selection = Selection(device, feature)
        with frame("Drift"):
            words = ui.column().classes("w-full gap-2")
            table = ui.column().classes("w-full gap-5")
            detail = ui.column().classes("w-full")

        async def show_detail() -> None:
            document = await run.io_bound(_read, readings, selection.device)
            detail.clear()
            with detail:
                _show_detail(document, selection)

        async def choose(device: str, feature: str) -> None:
            selection.device, selection.feature = device, feature
            await show_detail()

        async def show(document: dict[str, Any]) -> None:
            _choose_first(document, selection)
            words.clear()
            with words:
                _show_words(document)
            table.clear()
            with table:
                _show_table(document, choose)
                show_performance(document["performance"])
            await show_detail()

        keep_fresh(readings.read_drift, show)


def _read(readings: Readings, device: str) -> dict[str, Any] | None:
    try:
        return readings.read_histograms(device) if device else None
    except NotFoundError:
        return None


def _choose_first(document: dict[str, Any], selection: Selection) -> None:
    """Look at the largest shift unless the visitor chose something."""
    if selection.device and selection.feature:
        return
    moves = [
        (abs(feature["mean_shift_sd"]), device["device"], feature["name"])
        for device in document["devices"]
        if selection.device in ("", device["device"])
        for feature in device["features"]
    ]
    if moves:
        _, selection.device, selection.feature = max(moves)


def _show_words(document: dict[str, Any]) -> None:
    for one in document["verdicts"][:_MOST_VERDICTS]:
        show_verdict(one)
    more = len(document["verdicts"]) - _MOST_VERDICTS
    if more > 0:
        ui.label(f"{more} more: edge-fleet drift list").classes("el-dim")
    if not document["verdicts"]:
        with ui.element("div").classes("el-strip el-good w-full"):
            ui.label("No device has drifted.").classes("font-medium")
    ui.label(document["scope"]).classes("el-dim")
    left_out: Counter[str] = Counter()
    for some in document["refused"]:
        left_out.update(some)
    if left_out:
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(left_out.items()))
        ui.label(f"Windows left out of drift: {counts}.").classes("el-dim")


def _show_table(document: dict[str, Any], choose: Any) -> None:
    devices = sorted(document["devices"], key=_largest, reverse=True)[:_MOST_DEVICES]
    drifted = {one["device"] for one in document["verdicts"]}
    if not devices:
        ui.label("No window has arrived yet.").classes("el-dim")
        return
    sizes: dict[str, float] = {}
    for device in devices:
        for feature in device["features"]:
            size = abs(feature["mean_shift_sd"])
            sizes[feature["name"]] = max(size, sizes.get(feature["name"], 0))
    names = sorted(sizes, key=lambda one: -sizes[one])[:_MOST_FEATURES]
    columns = f"grid-template-columns:120px repeat({len(devices)}, minmax(74px, 1fr))"
    with (
        card("Shift of the mean from the device's baseline, in reference sd", "w-full"),
        ui.element("div").style(f"display:grid;gap:6px;width:100%;{columns}"),
    ):
        ui.label("")
        for device in devices:
            mark = " font-semibold" if device["device"] in drifted else ""
            with ui.link(target=f"/device/{device['device']}").classes("el-link"):
                ui.label(device["device"]).classes("text-sm text-center" + mark)
        for name in names:
            ui.label(name).classes("text-sm self-center")
            for device in devices:
                _show_cell(device, name, choose)


def _show_cell(device: dict[str, Any], name: str, choose: Any) -> None:
    found = next((one for one in device["features"] if one["name"] == name), None)
    if found is None:
        ui.label("")
        return
    shift = found["mean_shift_sd"]
    colour = HIGHER if shift > 0 else LOWER
    depth = round(min(1.0, abs(shift) / _FULL_COLOUR_SD) * 85)
    cell = ui.label(f"{shift:+.2f}").classes("el-cell")
    cell.style(f"background:color-mix(in srgb, {colour} {depth}%, var(--page))")
    cell.on("click", partial(choose, device["device"], name))


def _show_detail(document: dict[str, Any] | None, selection: Selection) -> None:
    if document is None:
        return
    chosen = next(
        (x for x in document["histograms"] if x["feature"] == selection.feature), None
    )
    if chosen is None:
        return
    windows = document["histogram_windows"]
    title = f"{selection.device} · {selection.feature}: reference against live"
    with card(title, "w-full"):
        ui.echart(overlay_options(chosen)).classes("w-full h-80")
        ui.label(
            f"Live: {chosen['rows']:,} rows of the latest {windows} windows; "
            f"{chosen['missing']} missing, {chosen['below'] + chosen['above']} outside "
            f"the reference's range, {chosen['repeat']} exact repeats."
        ).classes("el-dim")
        for one in document["verdicts"]:
            if one["closed_us"] is None:
                ui.label(one["false_alarms"]).classes("el-dim")


def _largest(device: dict[str, Any]) -> float:
    return max((abs(one["mean_shift_sd"]) for one in device["features"]), default=0.0)
