# SPDX-License-Identifier: Apache-2.0
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from converter import chart, page
from converter.chart import Point
from converter.errors import ConvertOutputError
from converter.report import BuildReport, VariantReport

FLOAT = VariantReport(
    id="litert-float32",
    runtime="litert",
    dtype="float32",
    stage="float",
    size_bytes=40960,
    metric_value=0.98,
    drop=0.0,
    drop_upper=0.0,
    sqnr_db=999.0,
    latency_median_us=20.0,
    latency_p99_us=30.0,
    latency_calls=100,
    ram_bytes=None,
    kernels={},
    kept_float=(),
    float_operators=(),
    packed=True,
    chosen_for=(),
    reasons={"default": "within the budget, not the best latency"},
)
CHOSEN = replace(
    FLOAT,
    id="litert-static",
    stage="global",
    sqnr_db=41.7,
    latency_median_us=4.1,
    chosen_for=("default",),
    reasons={"default": "chosen: best latency within the budget"},
)
REFUSED = replace(
    CHOSEN,
    id="litert-dynamic",
    sqnr_db=12.0,
    chosen_for=(),
    reasons={"default": "not proven"},
)
REPORT = BuildReport(
    bundle="watch.bundle",
    digest="ab" * 32,
    signed=False,
    name="watch",
    source="watch.keras",
    framework="keras",
    task="classification",
    metric="top1",
    samples=300,
    max_drop=0.01,
    objective="latency",
    host="x86_64, Linux",
    runtime="litert 2.3.0",
    parity_inputs=67,
    parity_sqnr_db=120.0,
    variants=(FLOAT, CHOSEN, REFUSED),
    skipped={"litert-int4": "no such kernel"},
    selected={"default": "litert-static"},
    observe="vector",
    features=("a",),
    labels=("x", "y"),
    ref_id="cd" * 16,
    unit_rows=4,
    groups=2,
    golden_vectors=16,
    warnings=(),
    search_seconds=1.5,
    is_cut_short=False,
    seconds=3.0,
)


def marks(text: str) -> list[str]:
    return sorted(re.findall(r'<circle class="(\w+)"', text))


def test_the_page_shows_every_candidate_and_asks_nothing_of_a_network() -> None:
    text = page.format_page(REPORT)
    for one in REPORT.variants:
        assert f">{one.id}<" in text
    assert "no such kernel" in text
    assert marks(text) == ["chosen", "refused"]
    for word in ("http:", "https:", "<script", "@import", "url("):
        assert word not in text


def test_what_a_model_is_called_never_becomes_markup() -> None:
    evil = '<img src=x onerror=alert(1)>&"'
    variants = (FLOAT, replace(CHOSEN, id=evil, reasons={"default": evil}))
    report = replace(
        REPORT,
        name=evil,
        source=evil,
        labels=(evil,),
        warnings=(evil,),
        variants=variants,
        selected={"default": evil},
        skipped={evil: evil},
    )
    text = page.format_page(report)
    assert "<img" not in text
    assert "&lt;img" in text


def test_a_build_of_float_alone_has_a_page_without_a_picture() -> None:
    text = page.format_page(replace(REPORT, variants=(FLOAT,)))
    assert "<svg" not in text
    assert "litert-float32" in text


def test_memory_that_was_not_measured_is_not_drawn() -> None:
    measured = replace(CHOSEN, ram_bytes=5 << 20)
    variants = (replace(FLOAT, ram_bytes=7 << 20), measured, REFUSED)
    text = page.format_page(replace(REPORT, objective="ram", variants=variants))
    assert marks(text) == ["chosen"]


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.mkdir()
    with pytest.raises(ConvertOutputError, match="report cannot be written"):
        page.write_page(target, REPORT)
    assert list(tmp_path.iterdir()) == [target]


def test_the_front_is_what_nothing_beats() -> None:
    points = [
        Point("fast", 1, 20, "proven"),
        Point("same cost, worse", 1, 10, "proven"),
        Point("slower, worse", 2, 15, "refused"),
        Point("slower, better", 3, 40, "chosen"),
    ]
    front = chart.pareto_front(points)
    assert [one.name for one in front] == ["fast", "slower, better"]
    assert chart.pareto_front([]) == ()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1e-3), (-3.0, 7.0), (5.0, 1e6)])
def test_ticks_are_few_and_within(low: float, high: float) -> None:
    found = chart.ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low <= one <= high for one in found)


def test_one_point_and_points_alike_can_be_drawn() -> None:
    alike = [Point("a", 2.0, 30.0, "proven")] * 3
    picture = chart.draw(alike, cost="µs", quality="dB")
    assert "nan" not in ET.tostring(picture, encoding="unicode").lower()
