# SPDX-License-Identifier: Apache-2.0
"""Whether two builds of the same inputs are the same bytes.

Bundles are built under different hash seeds and thread counts, for LiteRT and for ONNX
Runtime; every static candidate is made from ranges of different kernels. All of it on
one x86 host: another instruction set was not run.
"""

import hashlib
import tempfile
from pathlib import Path

from bench.harness import models
from bench.harness.document import Document, Row, make_document, write_document
from converter.data.frames import ArrayFrames
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes.litert import Kernels

SETTINGS = (
    {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"},
    {"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"},
)


def run() -> Document:
    """Build under different settings, and quantize under different kernels."""
    if not models.are_here():
        return make_document("convert_reproducible", [Row(models.ABSENT, 0.0, "-")])
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sources = {
            "tflite": models.TINY / "ad" / "ad01_fp32.tflite",
            "onnx": models.anomaly_onnx(folder),
        }
        for name, source in sources.items():
            rows.append(_bundles(name, source, folder))
    rows += [_kernels("AD"), _kernels("VWW")]
    return make_document("convert_reproducible", rows)


def _bundles(name: str, source: Path, folder: Path) -> Row:
    frames = models.anomaly_frames()
    data = (
        "--calibration",
        models.save(folder, "c", x=frames[:98]),
        "--validation",
        models.save(folder, "v", x=frames[98:]),
        "--objective",
        "size",
        "--max-drop",
        "2%",
    )
    digests = {
        hashlib.sha256(
            models.build(source, folder, *data, **setting).bundle.read_bytes()
        ).hexdigest()
        for setting in SETTINGS
    }
    return _same(
        f"AD from {name}: bundles under 3 hash seeds and thread counts", digests
    )


def _kernels(name: str) -> Row:
    """Return how many different files each static recipe gives over kernel sets."""
    if name == "AD":
        path, frames = models.TINY / "ad" / "ad01_fp32.tflite", models.anomaly_frames()
    else:
        path = models.TINY / "vww" / "vww_96_float.tflite"
        frames = models.person_frames(64, seed=1)
    model = normalise(path.read_bytes(), source=name)
    digests: dict[str, set[str]] = {}
    for kernels in (Kernels.BUILTIN, Kernels.REFERENCE):
        work = LitertQuantizer(model, kernels)
        work.calibrate(ArrayFrames(frames[:64]))
        refined = [work.refine(one) for one in work.recipes() if one.per_channel]
        for one in [*work.recipes(), *refined]:
            if one is not None and one.scheme in {"static", "dynamic"}:
                found = hashlib.sha256(work.make(one).content).hexdigest()
                digests.setdefault(one.id, set()).add(found)
    most = max(digests.values(), key=len)
    return _same(
        f"{name}: {len(digests)} int8 candidates, ranges of 2 kernel sets", most
    )


def _same(case: str, digests: set[str]) -> Row:
    return Row(
        case,
        float(len(digests)),
        "different sha256",
        n=len(SETTINGS),
        asked="1",
        holds=len(digests) == 1,
    )


if __name__ == "__main__":
    write_document(run())
