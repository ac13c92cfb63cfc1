# SPDX-License-Identifier: Apache-2.0
"""How good chosen variants are on real models, beside the published int8 files."""

import tempfile
from pathlib import Path

import numpy as np

from bench.harness import models
from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.tiles import refuse_tiles
from converter.verify import verify

REFERENCE_SIZE = 1.2
MOST_DROP = 0.005


def run() -> Document:
    """Build the anomaly detector twice and the digits once; verify the published."""
    if not models.are_here():
        return make_document("convert_quality", [Row(models.ABSENT, 0.0, "-")])
    refuse_tiles()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [*_anomaly(folder), *_digits(folder), *_published(folder)]
    return make_document("convert_quality", rows)


def _anomaly(folder: Path) -> list[Row]:
    source = models.TINY / "ad" / "ad01_fp32.tflite"
    published = models.TINY / "ad" / "ad01_int8.tflite"
    frames = models.anomaly_frames()
    calibration, own = frames[:98], frames[98:]
    # Another microphone: 12 dB louder, with noise at a twentieth of the level.
    noise = np.random.default_rng(1).normal(0, np.abs(own).mean() / 20, own.shape)
    other = (own + 12 + noise).astype(np.float32)
    rows = []
    for name, data in (("same recording", own), ("another microphone", other)):
        built = models.build(
            source,
            folder,
            "--calibration",
            models.save(folder, "c", x=calibration),
            "--validation",
            models.save(folder, "v", x=data),
            "--max-drop",
            "3%",
        )
        expected = models.run_file(source, data)
        found = models.sqnr(models.run_variant(built.bundle, data), expected)
        reference = models.sqnr(models.run_file_of_integers(published, data), expected)
        size = _size(built)
        chosen = built.report["selected"]["default"]
        better = found - reference
        rows.append(
            Row(
                f"AD, {name}: SQNR of {chosen}",
                found,
                "dB",
                baseline=reference,
                ratio=found / reference,
                n=len(data),
                asked=">= 41 dB" if data is own else ">= 10 dB above the published",
                holds=found >= 41 if data is own else better >= 10,
            )
        )
        rows.append(
            Row(
                f"AD, {name}: size of {chosen}",
                float(size),
                "B",
                baseline=float(published.stat().st_size),
                ratio=size / published.stat().st_size,
                asked=f"<= {REFERENCE_SIZE} x the published int8 file",
                holds=size <= REFERENCE_SIZE * published.stat().st_size,
            )
        )
    return rows


def _digits(folder: Path) -> list[Row]:
    source = models.BENCHDATA / "litert_mnist_models" / "conv_fc_mnist.tflite"
    images, labels = models.digit_images()
    built = models.build(
        source,
        folder,
        "--calibration",
        models.save(folder, "c", x=images[:2000], y=labels[:2000]),
        "--validation",
        models.save(folder, "v", x=images[2000:], y=labels[2000:]),
        "--scale",
        "1/255",
        "--max-drop",
        "0.5%",
        "--objective",
        "size",
    )
    by_id = {one["id"]: one for one in built.report["variants"]}
    chosen = by_id[built.report["selected"]["default"]]
    whole = source.stat().st_size
    return [
        Row(
            f"MNIST: drop of {chosen['id']}, upper end of its 95 % interval",
            chosen["drop_upper"] * 100,
            "points",
            baseline=chosen["drop"] * 100,
            n=len(images) - 2000,
            asked="<= 0.5 points",
            holds=chosen["drop_upper"] <= MOST_DROP,
        ),
        Row(
            "MNIST: size of it beside float",
            float(chosen["size_bytes"]),
            "B",
            baseline=float(whole),
            ratio=chosen["size_bytes"] / whole,
            asked="<= 0.3 x",
            holds=chosen["size_bytes"] <= 0.3 * whole,
        ),
    ]


def _published(folder: Path) -> list[Row]:
    data = Path(models.save(folder, "d", x=models.anomaly_frames()))
    ad = models.TINY / "ad"
    (lost,) = verify(ad / "ad01_fp32.tflite", ad / "ad01.h5", data=data)
    keywords = models.TINY / "kws" / "kws_ref_model_float32.tflite"
    (quantized,) = verify(keywords, None)
    codes = {one.code for one in quantized.findings}
    return [
        Row(
            "verify: ad01_fp32.tflite against ad01.h5",
            lost.sqnr_db or 0.0,
            "dB",
            n=lost.inputs,
            asked="flagged (it lost its biases)",
            holds=any(one.code == "parity" for one in lost.findings),
        ),
        Row(
            "verify: kws_ref_model_float32.tflite is not float",
            float("not-float" in codes),
            "flagged",
            asked="flagged",
            holds="not-float" in codes,
        ),
    ]


def _size(built: models.Built) -> int:
    chosen = built.report["selected"]["default"]
    (size,) = (
        one["size_bytes"] for one in built.report["variants"] if one["id"] == chosen
    )
    return int(size)


if __name__ == "__main__":
    write_document(run())
