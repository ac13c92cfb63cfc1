# SPDX-License-Identifier: Apache-2.0
"""What a search costs and buys on the person detector, beside the plain recipe."""

import tempfile
from pathlib import Path

import numpy as np

from bench.harness import models, peers
from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.tiles import refuse_tiles
from converter.measure import time_in_turns
from converter.runtimes import open_engine
from edge_contract.bundle import Bundle

FRAMES = 128
TIMINGS = 3


def run() -> Document:
    """Search, then measure the choice and ai-edge-quantizer's own static recipe."""
    if not models.are_here():
        return make_document("convert_search", [Row(models.ABSENT, 0.0, "-")])
    refuse_tiles()
    source = models.TINY / "vww" / "vww_96_float.tflite"
    calibration = models.person_frames(FRAMES, seed=1)
    validation = models.person_frames(FRAMES, seed=2)
    fresh = models.person_frames(FRAMES, seed=3)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        built = models.build(
            source,
            folder,
            "--calibration",
            models.save(folder, "c", x=calibration),
            "--validation",
            models.save(folder, "v", x=validation),
            "--budget",
            "60s",
            "--max-drop",
            "10%",
        )
        found = models.run_variant(built.bundle, fresh)
        chosen = built.report["selected"]["default"]
        with Bundle.open(built.bundle) as bundle:
            content = bundle.read(bundle.manifest.variant(chosen).file)
    plain = peers.plain_static(source.read_bytes(), calibration)
    expected = models.run_file(source, fresh)
    logits = open_engine("litert", peers.normal_form(source.read_bytes())).run(fresh)
    raw_gain = models.sqnr(open_engine("litert", content).run(fresh), logits)
    raw_base = models.sqnr(open_engine("litert", plain).run(fresh), logits)
    gain = models.sqnr(found, expected)
    base = models.sqnr(peers.run_bytes(plain, fresh), expected)
    ratios = [_ratio(content, plain, fresh) for _ in range(TIMINGS)]
    ratio = float(np.median(ratios))
    quality = (gain, base, raw_gain, raw_base)
    rows = [*_cost(built), *_quality(chosen, quality)]
    rows.append(
        Row(
            f"VWW: latency of {chosen} over the plain static recipe",
            ratio,
            "x",
            n=TIMINGS,
            spread=float(np.ptp(ratios) / 2),
            asked="<= 1.08 x",
            holds=ratio <= 1.08,
        )
    )
    return make_document("convert_search", rows)


def _cost(built: models.Built) -> list[Row]:
    return [
        Row(
            "VWW: the whole build",
            built.seconds,
            "s",
            asked="<= 60 s",
            holds=built.seconds <= 60,
        ),
        Row(
            "VWW: peak resident memory of the build",
            built.peak_bytes / 2**20,
            "MiB",
            asked="<= 400 MB",
            holds=built.peak_bytes <= 400_000_000,
        ),
    ]


def _quality(chosen: str, quality: tuple[float, float, float, float]) -> list[Row]:
    gain, base, raw_gain, raw_base = quality
    return [
        Row(
            f"VWW: SQNR of probabilities, {chosen}, on fresh crops",
            gain,
            "dB",
            baseline=base,
            n=FRAMES,
            asked=">= 10 dB above the plain static recipe",
            holds=gain >= base + 10,
        ),
        Row(
            f"VWW: SQNR of logits, {chosen}, on fresh crops",
            raw_gain,
            "dB",
            baseline=raw_base,
            n=FRAMES,
        ),
    ]


def _ratio(content: bytes, plain: bytes, frames: models.Float32) -> float:
    engines = [open_engine("litert", one) for one in (content, plain)]
    ours, theirs = time_in_turns(engines, frames)
    return ours.median_us / theirs.median_us


if __name__ == "__main__":
    write_document(run())
