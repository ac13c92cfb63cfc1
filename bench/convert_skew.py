# SPDX-License-Identifier: Apache-2.0
"""Version skew: the same model and data on the runtime that 32-bit devices have."""

import tempfile
from pathlib import Path

from bench.harness import models, peers
from bench.harness.document import Document, Row, make_document, write_document
from converter.runtimes.side import VERSION, run_there
from edge_contract.bundle import Bundle

PROFILE = "armv7l-tflite214"


def run() -> Document:
    """Run today's recipe and ours for 32-bit ARM on tflite-runtime 2.14 (x86 wheel)."""
    if not models.are_here():
        return make_document("convert_skew", [Row(models.ABSENT, 0.0, "-")])
    source = models.TINY / "ad" / "ad01_fp32.tflite"
    frames = models.anomaly_frames()
    calibration, own = frames[:98], frames[98:]
    expected = models.run_file(source, own)
    today = peers.plain_dynamic(source.read_bytes())
    silent = models.sqnr(run_there(today, own), expected)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        built = models.build(
            source,
            folder,
            "--calibration",
            models.save(folder, "c", x=calibration),
            "--validation",
            models.save(folder, "v", x=own),
            "--profile",
            PROFILE,
            "--max-drop",
            "5%",
        )
        with Bundle.open(built.bundle) as bundle:
            chosen = bundle.manifest.select(PROFILE)
            content = bundle.read(chosen.file)
    found = models.sqnr(run_there(content, own), expected)
    per_tensor = peers.our_dynamic_per_tensor(source.read_bytes())
    dynamic = models.sqnr(run_there(per_tensor, own), expected)
    return make_document(
        "convert_skew",
        [
            Row(
                f"AD on tflite-runtime {VERSION}: {chosen.id}, chosen for {PROFILE}",
                found,
                "dB",
                baseline=silent,
                n=len(own),
                asked=">= 30 dB (today's recipe silently gives 0.2)",
                holds=found >= 30,
            ),
            Row(
                f"AD on tflite-runtime {VERSION}: our dynamic int8, a scale a tensor",
                dynamic,
                "dB",
                baseline=silent,
                n=len(own),
                asked=">= 30 dB",
                holds=dynamic >= 30,
            ),
        ],
    )


if __name__ == "__main__":
    write_document(run())
