# SPDX-License-Identifier: Apache-2.0
"""The outcome of a build, as values, as one JSON document and as text.

Latency and memory are here and never in the bundle: they are this host's. Reads
nothing and decides nothing.
"""

import io
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 110
_SHOWN = 9


@dataclass(frozen=True)
class VariantReport:
    """One candidate's figures.

    Attributes:
        id: Its id.
        runtime: Which runtime runs it.
        dtype: Its arithmetic.
        stage: ``float``, ``global``, or ``reverted`` where operators are float again.
        size_bytes: Length of the file.
        metric_value: The metric on the validation frames.
        drop: The metric's loss against float.
        drop_upper: Upper end of the drop's 95 % interval.
        sqnr_db: Outputs against float's, 999 where equal.
        latency_median_us: Host, one thread.
        latency_p99_us: Host, one thread.
        latency_calls: How many calls were timed.
        ram_bytes: Host; None where it was not measured.
        kernels: The worst agreement with the golden outputs, a kernel set.
        kept_float: What the search reverted to float.
        float_operators: What stayed float in a static variant, for whatever reason.
        packed: Whether it is in the bundle.
        chosen_for: Device profiles that it was chosen for.
        reasons: Device profile to why, or why not.
    """

    id: str
    runtime: str
    dtype: str
    stage: str
    size_bytes: int
    metric_value: float
    drop: float
    drop_upper: float
    sqnr_db: float
    latency_median_us: float
    latency_p99_us: float
    latency_calls: int
    ram_bytes: int | None
    kernels: dict[str, str]
    kept_float: tuple[str, ...]
    float_operators: tuple[str, ...]
    packed: bool
    chosen_for: tuple[str, ...]
    reasons: dict[str, str]


@dataclass(frozen=True)
class BuildReport:
    """What ``edge-convert build`` did."""

    bundle: str
    digest: str
    signed: bool
    name: str
    source: str
    framework: str
    task: str
    metric: str
    samples: int
    max_drop: float
    objective: str
    host: str
    runtime: str
    parity_inputs: int
    parity_sqnr_db: float
    variants: tuple[VariantReport, ...]
    skipped: dict[str, str]
    selected: dict[str, str]
    observe: str
    features: tuple[str, ...]
    labels: tuple[str, ...]
    ref_id: str
    unit_rows: int
    groups: int
    golden_vectors: int
    warnings: tuple[str, ...]
    search_seconds: float
    is_cut_short: bool
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--json``."""
        return asdict(self)


def format_report(report: BuildReport, *, colour: bool, shows_all: bool = False) -> str:
    """Return the report as text with its comparison table.

    Args:
        report: What to show.
        colour: Whether the reader is a terminal.
        shows_all: Every candidate, not only the most telling ones.
    """
    out = io.StringIO()
    console = Console(
        file=out, width=_WIDTH, force_terminal=colour, no_color=not colour
    )
    shown = report.variants if shows_all else _most_telling(report)
    console.print(_table(report, shown))
    for line in _lines(report, shown):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return out.getvalue()


def _most_telling(report: BuildReport) -> tuple[VariantReport, ...]:
    """Return what was packed, and the best of the others by quality and by cost."""
    others = [one for one in report.variants if not one.packed]
    others.sort(key=lambda one: (-round(one.sqnr_db, 0), one.latency_median_us))
    kept = {one.id for one in others[:_SHOWN]}
    kept |= {one.id for one in report.variants if one.packed}
    return tuple(one for one in report.variants if one.id in kept)


def reason_of(one: VariantReport) -> str:
    """Return the reason, once where it is the same for every device profile."""
    different = dict.fromkeys(one.reasons.values())
    if len(different) == 1:
        return next(iter(different))
    return "; ".join(f"{name}: {why}" for name, why in one.reasons.items())


def _table(report: BuildReport, shown: tuple[VariantReport, ...]) -> Table:
    table = Table(
        title=f"{report.name}: {report.samples} validation frames, {report.metric}",
        title_justify="left",
    )
    table.add_column("variant")
    for heading in (report.metric, "drop ≤ 95 %", "SQNR dB", "KiB", "μs (p99)"):
        table.add_column(heading, justify="right")
    measured_ram = any(one.ram_bytes is not None for one in report.variants)
    if measured_ram:
        table.add_column("MiB RAM", justify="right")
    for one in shown:
        cells = [
            f"{'→ ' if one.chosen_for else '  '}{one.id}",
            f"{one.metric_value:.4f}",
            "" if one.dtype == "float32" else f"{one.drop_upper:.2%}",
            "" if one.dtype == "float32" else f"{one.sqnr_db:.1f}",
            f"{one.size_bytes / 1024:.1f}",
            f"{one.latency_median_us:.1f} ({one.latency_p99_us:.1f})",
        ]
        if measured_ram:
            used = one.ram_bytes
            cells.append("" if used is None else f"{used / 2**20:.1f}")
        table.add_row(*cells)
    return table


def _lines(report: BuildReport, shown: tuple[VariantReport, ...]) -> list[str]:
    lines = [f"{name}: {variant}" for name, variant in report.selected.items()]
    lines += [f"{one.id}: {reason_of(one)}" for one in shown]
    lines += [f"{name}: not built: {why}" for name, why in report.skipped.items()]
    hidden = len(report.variants) - len(shown)
    lines += [f"{hidden} more candidates: --all shows them"] if hidden else []
    lines += [
        f"{one.id}: {len(one.float_operators)} operators are float"
        for one in shown
        if one.float_operators
    ]
    lines += remarks(report)
    signed = "signed" if report.signed else "unsigned"
    lines.append(f"{report.bundle}: {signed}, release {report.digest}")
    return lines


def remarks(report: BuildReport) -> list[str]:
    """Return how the figures were made, and what the data's lint warns of."""
    searched = f"searched {len(report.variants)} candidates"
    searched += f" in {report.search_seconds:g} s"
    if report.is_cut_short:
        searched += "; time ran out: a larger --budget tries more"
    return [
        searched,
        (
            f"float parity with {report.framework}: {report.parity_sqnr_db:.1f} dB"
            f" on {report.parity_inputs} inputs"
        ),
        f"latency measured on this host, one thread: {report.host}",
        (
            f"observes {len(report.features)} features as {report.observe}"
            f" (units of {report.unit_rows} rows, {report.groups} groups)"
        ),
        *(f"warning: {one}" for one in report.warnings),
    ]
