# SPDX-License-Identifier: Apache-2.0
"""The look of the dashboard: colours, the frame around every page, small pieces.

Owns the style sheet. Text that a device supplied is only ever set as the text of an
element, never as markup.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from nicegui import run, ui

ACCENT = "#14b8a6"
LOWER, HIGHER, GREY = "#3b82f6", "#f97316", "#94a3b8"
LINES = ("#f97316", "#14b8a6", "#3b82f6", "#a855f7", "#eab308", "#ec4899")
REFRESH_SECONDS = 2.0

_CSS = """
:root { --page:#f4f6f8; --card:#ffffff; --line:#e3e8ee; --ink:#0f172a; --dim:#64748b;
  --bad:#dc2626; --bad-soft:#fef2f2; --warn:#b45309; --warn-soft:#fffbeb;
  --good:#0f766e; --good-soft:#f0fdfa; }
.body--dark { --page:#0b1120; --card:#111a2e; --line:#1f2b45; --ink:#e6edf7;
  --dim:#8b9bb4; --bad:#f87171; --bad-soft:#2a1620; --warn:#fbbf24;
  --warn-soft:#2a2315; --good:#2dd4bf; --good-soft:#0d2528; }
body, .body--dark { background:var(--page) !important; color:var(--ink); }
.el-header { background:var(--card) !important; color:var(--ink) !important;
  border-bottom:1px solid var(--line); box-shadow:none !important; }
.el-nav { color:var(--dim); text-decoration:none !important; padding:6px 12px;
  border-radius:8px; font-weight:500; }
.el-nav:hover, .el-nav-on { color:var(--ink); background:var(--page); }
.el-card { background:var(--card); border:1px solid var(--line); border-radius:14px;
  padding:18px 20px; min-width:0; }
.el-h { font-size:13px; font-weight:600; letter-spacing:.02em; color:var(--dim); }
.el-num { font-size:30px; font-weight:650; line-height:1.15;
  font-feature-settings:"tnum"; }
.el-dim { color:var(--dim); font-size:13px; }
.el-strip { border-radius:12px; padding:12px 16px; border:1px solid var(--line);
  border-left:4px solid; background:var(--card); text-decoration:none !important;
  color:var(--ink) !important; display:block; }
.el-serious { border-left-color:var(--bad); background:var(--bad-soft); }
.el-notice { border-left-color:var(--warn); background:var(--warn-soft); }
.el-good { border-left-color:var(--good); background:var(--good-soft); }
.el-code { font-family:ui-monospace,monospace; font-size:12.5px; color:var(--dim); }
.el-pill { border-radius:999px; padding:2px 10px; font-size:12px; font-weight:600; }
.el-pill-drifted, .el-pill-serious, .el-pill-held, .el-pill-failed,
.el-pill-aborted, .el-pill-halted { color:var(--bad); background:var(--bad-soft); }
.el-kind { border-radius:999px; padding:2px 10px; font-size:12px; font-weight:600;
  color:var(--ink); background:var(--line); white-space:nowrap; }
.el-pill-learning, .el-pill-notice, .el-pill-paused {
  color:var(--warn); background:var(--warn-soft); }
.el-pill-quiet, .el-pill-running, .el-pill-done, .el-pill-committed,
.el-pill-passed, .el-pill-completed {
  color:var(--good); background:var(--good-soft); }
.el-dot { width:9px; height:9px; border-radius:50%; background:var(--dim); }
.el-dot-on { background:#10b981; box-shadow:0 0 0 3px #10b98133; }
.el-row { border-top:1px solid var(--line); padding:9px 0; }
.el-link { color:inherit !important; text-decoration:none !important; }
.el-bar { height:8px; border-radius:4px; background:var(--line); overflow:hidden; }
.el-cell { border-radius:8px; height:38px; min-width:74px; cursor:pointer; display:flex;
  align-items:center; justify-content:center; font-size:13px;
  font-feature-settings:"tnum"; border:1px solid transparent; }
.el-cell:hover { border-color:var(--dim); }
.el-cell-on { border-color:var(--ink) !important; }
"""
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" '
    'stroke="#14b8a6" stroke-width="2.4" stroke-linecap="round">'
    '<path d="M20 12a8 8 0 1 1-2.6-5.9"/><path d="M20 3v4h-4"/>'
    '<circle cx="12" cy="12" r="2"/></svg>'
)
ICON = _ICON
_PAGES = (
    ("Overview", "/"),
    ("Devices", "/devices"),
    ("Drift", "/drift"),
    ("Rollouts", "/rollouts"),
    ("Alerts", "/alerts"),
)


@contextmanager
def frame(active: str) -> Iterator[None]:
    """Lay the header out and give the column that a page fills.

    Args:
        active: The name of the page in the header.
    """
    ui.add_css(_CSS)
    ui.colors(primary=ACCENT)
    dark = ui.dark_mode(value=None)
    with ui.header().classes("el-header items-center gap-2 px-6 py-2"):
        ui.html(_ICON, sanitize=False).classes("w-6 h-6")
        ui.label("Edgeloop").classes("text-base font-semibold mr-4")
        for name, target in _PAGES:
            on = " el-nav-on" if name == active else ""
            ui.link(name, target).classes("el-nav" + on)
        ui.space()
        ui.button(icon="dark_mode", on_click=dark.toggle).props(
            "flat round dense"
        ).tooltip("light or dark")
    with ui.column().classes("w-full max-w-7xl mx-auto p-6 gap-5"):
        yield


@contextmanager
def card(title: str, classes: str = "") -> Iterator[None]:
    """Give a card with a heading."""
    with ui.column().classes(f"el-card gap-2 {classes}"):
        ui.label(title).classes("el-h")
        yield


def tile(title: str, number: str, note: str) -> None:
    """Show one figure with what it means."""
    with ui.column().classes("el-card gap-0 flex-1"):
        ui.label(title).classes("el-h")
        ui.label(number).classes("el-num")
        ui.label(note).classes("el-dim")


def pill(text: str) -> None:
    """Show a state in its colour."""
    ui.label(text).classes(f"el-pill el-pill-{text.split(' ', maxsplit=1)[0]}")


def keep_fresh(
    read: Callable[[], Any], show: Callable[[Any], Awaitable[None] | None]
) -> None:
    """Show what ``read`` returns, at once and again whenever it has changed.

    ``read`` blocks and runs in a worker thread; ``show`` runs in the page.
    """
    last: list[Any] = []

    async def refresh() -> None:
        document = await run.io_bound(read)
        if [document] != last:
            last[:] = [document]
            shown = show(document)
            if shown is not None:
                await shown

    ui.timer(REFRESH_SECONDS, refresh)


def count_text(number: int) -> str:
    """Format a count.

    >>> count_text(1234567)
    '1,234,567'
    """
    return f"{number:,}"


def time_text(time_us: int) -> str:
    """Format a moment.

    >>> time_text(1_700_000_000_000_000)
    '2023-11-14 22:13:20 UTC'
    """
    moment = datetime.fromtimestamp(time_us / 1_000_000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
