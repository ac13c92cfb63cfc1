# SPDX-License-Identifier: Apache-2.0
"""The report of a build as one HTML page that needs no network.

Owns the page. The figures are ``report``'s, the picture is ``chart``'s; the tree is
built and written by the standard library, so no text of a model can become markup.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from converter import chart
from converter.choose import Objective
from converter.errors import ConvertOutputError
from converter.report import BuildReport, VariantReport, reason_of, remarks

_AXES: Final[dict[Objective, str]] = {
    "latency": "µs an inference, median on this host",
    "size": "KiB",
    "ram": "MiB of memory on this host",
}
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5d6b7a; --rule: #d9dfe5;
  --page: #fff; --good: #0a7d4b; --mark: #1663c7; --bad: #9aa5b1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --dim: #9aa8b6;
  --rule: #333d48; --page: #12181f; --good: #3fcf8e; --mark: #6aa9ff;
  --bad: #6b7783; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.dim, figcaption { color: var(--dim); } figure { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid var(--rule);
  vertical-align: top; } th { color: var(--dim); font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; } td:first-child { white-space: nowrap; }
tr.chosen td:first-child { font-weight: 600; }
td.why { color: var(--dim); min-width: 13rem; } code { overflow-wrap: anywhere; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--dim); } svg .name { fill: var(--ink); font-weight: 600; }
svg .middle { text-anchor: middle; } svg .end { text-anchor: end; }
.grid { stroke: var(--rule); } .front { fill: none; stroke: var(--mark);
  stroke-width: 1.5; stroke-dasharray: 5 4; }
circle.chosen { fill: var(--good); } circle.proven { fill: var(--mark); }
circle.refused { fill: none; stroke: var(--bad); stroke-width: 1.5; }
"""


def default_path(bundle: Path) -> Path:
    """Return where the page goes if nobody says: beside the bundle.

    >>> default_path(Path("watch.bundle")).name
    'watch.bundle.html'
    """
    return bundle.with_name(bundle.name + ".html")


def write_page(path: Path, report: BuildReport) -> None:
    """Write the page, whole or not at all.

    Raises:
        ConvertOutputError: The disk refused.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            scratch.write_text(format_page(report), encoding="utf-8")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{path}: the report cannot be written: {error.strerror or error}"
        raise ConvertOutputError(
            msg, next_step="the bundle is there; change --report"
        ) from error


def format_page(report: BuildReport) -> str:
    """Return the page as text."""
    page = ET.Element("html", {"lang": "en"})
    head = ET.SubElement(page, "head")
    ET.SubElement(head, "meta", {"charset": "utf-8"})
    view = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    ET.SubElement(head, "meta", view)
    _add(head, "title", f"{report.name}: edge-convert build")
    _add(head, "style", _STYLE)
    body = ET.SubElement(page, "body")
    _add_summary(body, report)
    _add_picture(body, report)
    _add_variants(body, report)
    _add_list(body, "Not built", [f"{k}: {v}" for k, v in report.skipped.items()])
    _add_list(body, "How it was made", remarks(report))
    return "<!doctype html>\n" + ET.tostring(page, encoding="unicode", method="html")


def _add_summary(body: ET.Element, report: BuildReport) -> None:
    _add(body, "h1", report.name)
    signed = "signed" if report.signed else "unsigned"
    about = f"from {report.source} ({report.framework}) · {report.task} · {signed}"
    _add(body, "p", about, "dim")
    release = ET.SubElement(body, "p")
    release.text = "release "
    _add(release, "code", report.digest)
    asked = f"Asked: {report.metric} at most {report.max_drop:.2%} below float, proven "
    asked += f"(95 %) on {report.samples} validation frames; best {report.objective}."
    _add(body, "p", asked)
    rows = [[(device, ""), (name, "")] for device, name in report.selected.items()]
    _add(body, "h2", "Chosen")
    _add_table(body, [("device profile", ""), ("variant", "")], rows)


def _add_picture(body: ET.Element, report: BuildReport) -> None:
    points = [
        chart.Point(one.id, cost, one.sqnr_db, _mark(one), reason_of(one))
        for one in report.variants
        if one.stage != "float" and (cost := _cost(one, report)) is not None
    ]
    if not points:
        return
    figure = ET.SubElement(body, "figure")
    quality = "SQNR against float, dB"
    axis = _AXES[_objective(report)]
    figure.append(chart.draw(points, cost=axis, quality=quality))
    base = report.variants[0]
    caption = "Up and left is better; the dashed line joins what nothing beats in both."
    caption += " Green: chosen. Blue: proven within the budget. Hollow: refused"
    caption += f" for every device. Float itself: {_cost(base, report):.1f}."
    _add(figure, "figcaption", caption)


def _objective(report: BuildReport) -> Objective:
    return next(one for one in _AXES if one == report.objective)


def _cost(one: VariantReport, report: BuildReport) -> float | None:
    if report.objective == "latency":
        return one.latency_median_us
    if report.objective == "size":
        return one.size_bytes / 1024
    return None if one.ram_bytes is None else one.ram_bytes / 2**20


def _mark(one: VariantReport) -> chart.Mark:
    if one.chosen_for:
        return "chosen"
    within = any(why.startswith("within the budget") for why in one.reasons.values())
    return "proven" if within else "refused"


def _add_variants(body: ET.Element, report: BuildReport) -> None:
    _add(body, "h2", f"All {len(report.variants)} candidates")
    number = "number"
    headings = [
        ("variant", ""),
        (report.metric, number),
        ("drop ≤ (95 %)", number),
        ("SQNR dB", number),
        ("KiB", number),
        ("µs (p99)", number),
        ("why, or why not", "why"),
    ]
    ordered = sorted(report.variants, key=lambda one: (not one.chosen_for, one.id))
    rows = [_row(one) for one in ordered]
    kinds = ["chosen" if one.chosen_for else "" for one in ordered]
    _add_table(body, headings, rows, kinds)


def _row(one: VariantReport) -> list[tuple[str, str]]:
    is_float = one.stage == "float"
    return [
        (one.id, ""),
        (f"{one.metric_value:.4f}", "number"),
        ("" if is_float else f"{one.drop_upper:.2%}", "number"),
        ("" if is_float else f"{one.sqnr_db:.1f}", "number"),
        (f"{one.size_bytes / 1024:.1f}", "number"),
        (f"{one.latency_median_us:.1f} ({one.latency_p99_us:.1f})", "number"),
        (reason_of(one), "why"),
    ]


def _add_table(
    body: ET.Element,
    headings: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[tuple[str, str]]],
    kinds: Sequence[str] = (),
) -> None:
    table = ET.SubElement(ET.SubElement(body, "div", {"class": "wide"}), "table")
    top = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for text, kind in headings:
        _add(top, "th", text, kind)
    lines = ET.SubElement(table, "tbody")
    for index, cells in enumerate(rows):
        line = ET.SubElement(lines, "tr")
        if kinds and kinds[index]:
            line.set("class", kinds[index])
        for text, kind in cells:
            _add(line, "td", text, kind)


def _add_list(body: ET.Element, title: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    _add(body, "h2", title)
    listed = ET.SubElement(body, "ul")
    for line in lines:
        _add(listed, "li", line)


def _add(parent: ET.Element, tag: str, text: str, kind: str = "") -> None:
    found = ET.SubElement(parent, tag, {"class": kind} if kind else {})
    found.text = text
