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

_WIDTH = 100


@dataclass(frozen=True)
class VariantReport:
    """One candidate's figures.

    Attributes:
        id: Its id.
        dtype: Its arithmetic.
        size_bytes: Length of the file.
        accuracy: Share of validation frames that it got right.
        drop: Accuracy lost against float.
        drop_upper: Upper end of the drop's 95 % interval.
        sqnr_db: Outputs against float's, 999 where equal.
        latency_median_us: Host, one thread.
        latency_p99_us: Host, one thread.
        latency_calls: How many calls were timed.
        ram_bytes: Host; None where it was not measured.
        kernels: The worst agreement with the golden outputs, a kernel set.
        float_operators: What stayed float in a quantized variant.
        packed: Whether it is in the bundle.
        chosen: Whether it is the default.
        reason: Why, or why not.
    """

    id: str
    dtype: str
    size_bytes: int
    accuracy: float
    drop: float
    drop_upper: float
    sqnr_db: float
    latency_median_us: float
    latency_p99_us: float
    latency_calls: int
    ram_bytes: int | None
    kernels: dict[str, str]
    float_operators: tuple[str, ...]
    packed: bool
    chosen: bool
    reason: str


@dataclass(frozen=True)
class BuildReport:
    """What ``edge-convert build`` did."""

    bundle: str
    digest: str
    signed: bool
    name: str
    source: str
    framework: str
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
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--json``."""
        return asdict(self)


def format_report(report: BuildReport, *, colour: bool) -> str:
    """Return the report as text with its comparison table."""
    out = io.StringIO()
    console = Console(
        file=out, width=_WIDTH, force_terminal=colour, no_color=not colour
    )
    console.print(_table(report))
    for line in _lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return out.getvalue()


def _table(report: BuildReport) -> Table:
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
    for one in report.variants:
        cells = [
            f"{'→ ' if one.chosen else '  '}{one.id}",
            f"{one.accuracy:.4f}",
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


def _lines(report: BuildReport) -> list[str]:
    lines = [f"{one.id}: {one.reason}" for one in report.variants]
    lines += [f"{name}: not built: {why}" for name, why in report.skipped.items()]
    for one in report.variants:
        if one.float_operators:
            lines.append(f"{one.id}: {len(one.float_operators)} operators stayed float")
    lines.append(
        f"float parity with {report.framework}: {report.parity_sqnr_db:.1f} dB"
        f" on {report.parity_inputs} inputs"
    )
    lines.append(f"latency measured on this host, one thread: {report.host}")
    lines.append(
        f"observes {len(report.features)} features as {report.observe}"
        f" (units of {report.unit_rows} rows, {report.groups} groups)"
    )
    lines += [f"warning: {one}" for one in report.warnings]
    signed = "signed" if report.signed else "unsigned"
    lines.append(f"{report.bundle}: {signed}, release {report.digest}")
    return lines
