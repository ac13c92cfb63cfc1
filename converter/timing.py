# SPDX-License-Identifier: Apache-2.0
"""How long model files and bundles take on this host: ``edge-convert bench``.

Owns the table. All files are timed in turns on one thread; they are this host's figures
and no device's.
"""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from converter.errors import ConvertUsageError
from converter.measure import time_in_turns
from converter.model import Runtime
from converter.runtimes import Engine, open_engine
from converter.verify import open_litert
from edge_contract.bundle import Bundle

_RUNTIMES: Final[dict[str, Runtime]] = {
    "litert": "litert",
    "tflite-runtime": "litert",
    "onnxruntime": "onnxruntime",
}
_FRAMES: Final = 32


@dataclass(frozen=True, eq=False)
class _File:
    """A model file that is to be timed."""

    name: str
    engine: Engine
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Timing:
    """One file or variant."""

    name: str
    median_us: float
    p99_us: float
    calls: int
    size_bytes: int


def time_files(paths: Sequence[Path], *, rounds: int) -> tuple[Timing, ...]:
    """Time model files with float inputs, and every variant of bundles.

    Args:
        paths: ``.tflite``, ``.onnx`` and ``.bundle`` files of the same input shape.
        rounds: How many turns each takes.

    Raises:
        ConvertError: A file cannot be read or run, or the inputs differ.
    """
    files = [one for path in paths for one in _files(path)]
    shapes = {one.shape for one in files}
    if len(shapes) != 1:
        msg = f"bench: expected files of one input shape, found {sorted(shapes)}"
        raise ConvertUsageError(msg, next_step="time them apart")
    (shape,) = shapes
    random = np.random.Generator(np.random.PCG64(1))
    frames = random.normal(size=(_FRAMES, *shape[1:])).astype(np.float32)
    times = time_in_turns([one.engine for one in files], frames, rounds=rounds)
    return tuple(
        Timing(one.name, each.median_us, each.p99_us, each.calls, one.size_bytes)
        for one, each in zip(files, times, strict=True)
    )


def format_timings(found: Sequence[Timing]) -> str:
    """Return timings as lines of text, each beside the first."""
    first = found[0].median_us
    lines = [f"{'file':52} {'µs':>9} {'p99':>9} {'x':>6} {'KiB':>9}"]
    lines += [
        f"{one.name[-52:]:52} {one.median_us:9.1f} {one.p99_us:9.1f}"
        f" {one.median_us / first:6.2f} {one.size_bytes / 1024:9.1f}"
        for one in found
    ]
    host = f"{platform.machine()}, {os.cpu_count()} cores"
    lines.append(f"this host ({host}), one thread, {found[0].calls} calls in turns")
    return "\n".join(lines)


def to_json(found: Sequence[Timing]) -> dict[str, Any]:
    """Return the document of ``--json``."""
    return {"host": platform.machine(), "timings": [asdict(one) for one in found]}


def _files(path: Path) -> Iterator[_File]:
    try:
        if path.suffix == ".bundle":
            yield from _variants(path)
            return
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConvertUsageError(msg, next_step="check the path") from error
    if path.suffix.lower() == ".tflite":
        shape = open_litert(content, path.name).shape or ()
        yield _File(path.name, open_engine("litert", content), shape, len(content))
        return
    if path.suffix.lower() != ".onnx":
        msg = f"{path.name}: expected a .tflite, .onnx or .bundle file"
        raise ConvertUsageError(msg, next_step="build a bundle first")
    # Imported here: LiteRT files must not pay for ONNX.
    from converter.ort.normalise import normalise

    model = normalise(content, source=path.name)
    engine = open_engine("onnxruntime", model.content)
    yield _File(path.name, engine, model.input.shape, len(content))


def _variants(path: Path) -> Iterator[_File]:
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
        for one in manifest.variants:
            content = bundle.read(one.file)
            yield _File(
                f"{path.name}: {one.id}",
                open_engine(_RUNTIMES[one.runtime], content),
                manifest.input.shape,
                one.bytes,
            )
