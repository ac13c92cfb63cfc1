# SPDX-License-Identifier: Apache-2.0
"""How many bytes an update takes: our deltas beside four other schemes.

The releases are real: models are trained, trained on, and built by ``edge-convert``,
the second time once freely and once with ``--like``. The baseline of every row is the
whole new bundle under xz; what is promised is a share of it. The chunked scheme cuts
by content (a gear hash, 8 KiB on average, as casync and desync do), compresses each
chunk with xz, and sends those that the old bundle does not have, with 40 bytes a chunk.
Bytes repeat exactly on one machine; trainings differ between machines.
"""

import hashlib
import lzma
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import bsdiff4
import numpy as np

from bench.harness import models
from bench.harness.document import Document, Row, make_document, write_document
from edge_contract.bundle import Bundle
from fleet.registry.stretches import find_delta

CASES: Final = {
    "head": ("ResNet8, last layer retrained", 0.15),
    "watch": ("watch model, light fine-tune", 0.60),
    "digits": ("MNIST network, light fine-tune", 0.60),
}
_INDEX_BYTES: Final = 40
_MASK: Final = (1 << 13) - 1
_SMALLEST: Final = 2048
_LARGEST: Final = 65536
_GEAR: Final = np.random.default_rng(8192).integers(0, 2**32, 256, np.uint64)


def run() -> Document:
    """Train, build and compare."""
    if not models.are_here():
        return make_document("ota_deltas", [Row(models.ABSENT, 0.0, "-")])
    rows = []
    for name, (title, promise) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            rows += _case(Path(scratch), name, title, promise)
    return make_document("ota_deltas", rows)


def _case(folder: Path, name: str, title: str, promise: float) -> list[Row]:
    subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "bench.harness.training", name, str(folder)], check=True
    )
    old = _build(folder, "old")
    free = _build(folder, "new")
    like = _build(folder, "new", "--like", str(old))
    before = old.read_bytes()
    rows = _schemes(title, before, free.read_bytes(), None)
    rows += _schemes(f"{title}, --like", before, like.read_bytes(), promise)
    rows += _quantized_file(title, old, free, like)
    return rows


def _build(folder: Path, name: str, *options: str) -> Path:
    place = Path(tempfile.mkdtemp(dir=folder))
    data = [f"--{one}={folder / one}.npz" for one in ("calibration", "validation")]
    common = ["--objective=size", "--budget=10s", "--name=model", "--max-drop=5%"]
    built = models.build(folder / f"{name}.keras", place, *data, *common, *options)
    return built.bundle


def _schemes(
    title: str, before: bytes, after: bytes, promise: float | None
) -> list[Row]:
    whole = len(lzma.compress(after, preset=9 | lzma.PRESET_EXTREME))
    found = {
        "edgeloop delta": len(find_delta(before, after)),
        "bsdiff4": len(bsdiff4.diff(before, after)),
        "zstd --patch-from": _zstd(before, after),
        "chunks by content": _chunked(before, after),
    }
    size = len(after)
    rows = [Row(f"{title}: whole bundle", size, "bytes", whole, size / whole)]
    for scheme, size in found.items():
        ratio = size / whole
        ours = promise is not None and scheme == "edgeloop delta"
        rows.append(
            Row(
                f"{title}: {scheme}",
                size,
                "bytes",
                baseline=whole,
                ratio=ratio,
                asked=f"<= {promise:.0%} of full.xz" if ours else None,
                holds=ratio <= (promise or 0) if ours else None,
            )
        )
    return rows


def _quantized_file(title: str, old: Path, free: Path, like: Path) -> list[Row]:
    """Return what the int8 file alone takes: the part that ``--like`` works on."""
    before = _int8(old)
    rows = []
    for name, bundle in (("", free), (", --like", like)):
        after = _int8(bundle)
        if before is None or after is None or len(before) != len(after):
            continue
        changed = np.frombuffer(before, "u1") != np.frombuffer(after, "u1")
        rows.append(
            Row(
                f"{title}{name}: int8 file, bytes changed",
                int(changed.sum()),
                "bytes",
                baseline=len(after),
                ratio=float(changed.mean()),
            )
        )
    return rows


def _int8(bundle: Path) -> bytes | None:
    with Bundle.open(bundle) as opened:
        found = [one for one in opened.manifest.variants if one.dtype == "int8"]
        return opened.read(found[0].file) if found else None


def _zstd(before: bytes, after: bytes) -> int:
    program = shutil.which("zstd")
    if program is None:
        raise RuntimeError("zstd: expected the program, found none; apt install zstd")
    with tempfile.TemporaryDirectory() as scratch:
        old, new = Path(scratch) / "old", Path(scratch) / "new"
        old.write_bytes(before)
        new.write_bytes(after)
        done = subprocess.run(  # noqa: S603 - found above
            [program, "-19", "--ultra", f"--patch-from={old}", "-c", str(new)],
            check=True,
            capture_output=True,
        )
    return len(done.stdout)


def _chunked(before: bytes, after: bytes) -> int:
    had = {hashlib.sha256(one).digest() for one in _chunks(before)}
    chunks = list(_chunks(after))
    new = {one for one in chunks if hashlib.sha256(one).digest() not in had}
    return _INDEX_BYTES * len(chunks) + sum(len(lzma.compress(one)) for one in new)


def _chunks(content: bytes) -> Iterator[bytes]:
    start, state = 0, 0
    gear = [int(one) for one in _GEAR]
    for at, byte in enumerate(content):
        state = ((state << 1) + gear[byte]) & 0xFFFFFFFF
        size = at + 1 - start
        if size >= _SMALLEST and (not (state >> 19) & _MASK or size >= _LARGEST):
            yield content[start : at + 1]
            start, state = at + 1, 0
    if start < len(content):
        yield content[start:]


if __name__ == "__main__":
    write_document(run())
