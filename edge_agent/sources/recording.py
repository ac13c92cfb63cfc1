# SPDX-License-Identifier: Apache-2.0
"""Recordings in a file: ``x`` rows or frames, ``recording``, optional ``y``.

Owns reading the file, with suspicion, and what part of it a sample request may take.
Replaying it is ``file``'s matter.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.flow import Float32
from edge_agent.sources.table import load_table

MAX_FILE_BYTES: Final = 1024 * 1024 * 1024
_DIMENSIONS: Final = 2
_TABLES: Final = {".csv", ".parquet"}
_READ_ERRORS: Final = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Consecutive rows (float32 [n, C]) under one name."""

    name: str
    rows: Float32


def load_recordings(path: Path) -> list[Recording]:
    """Read the recordings of a file, in the order in which they begin.

    Raises:
        SourceError: It cannot be read, or is not of this form.
    """
    arrays = load_arrays(path)
    names, starts = arrays["recording"], _starts(arrays["recording"])
    stops = [*starts[1:], len(names)]
    return [
        Recording(str(names[start]), arrays["x"][start:stop])
        for start, stop in zip(starts, stops, strict=True)
    ]


def read_head(path: Path, fraction: float) -> dict[str, np.ndarray]:
    """Return the first part of each recording in a file.

    Args:
        path: An ``.npz``, ``.csv`` or ``.parquet`` file.
        fraction: How much of each recording, 0 to 1.

    Returns:
        ``x`` float32 [n, C], ``recording`` [n] and, where the file has it, ``y`` [n].

    Raises:
        SourceError: It cannot be read, or is not of this form.
    """
    if not 0 < fraction <= 1:
        msg = f"{path}: expected a fraction from 0 to 1, found {fraction}"
        raise SourceError(msg)
    arrays = load_arrays(path)
    starts = _starts(arrays["recording"])
    stops = [*starts[1:], len(arrays["recording"])]
    kept = np.concatenate(
        [
            np.arange(start, start + int((stop - start) * fraction))
            for start, stop in zip(starts, stops, strict=True)
        ]
    )
    return {name: array[kept] for name, array in arrays.items()}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all that a file holds of recordings.

    Returns:
        ``x`` float32 [n, C], ``recording`` [n] and, where the file has it, ``y`` [n].

    Raises:
        SourceError: It cannot be read, or is not of this form.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            msg = f"source {path}: expected at most {MAX_FILE_BYTES} bytes"
            raise SourceError(msg, next_step="cut the file into several")
    except OSError as error:
        msg = f"source {path}: cannot be read: {error.strerror}"
        raise SourceError(msg, next_step="check source.path") from error
    is_table = path.suffix.lower() in _TABLES
    found = load_table(path) if is_table else _load_npz(path)
    rows = found.get("x")
    if rows is None or rows.ndim < _DIMENSIONS or rows.dtype.kind not in "fiu":
        shape: Any = None if rows is None else f"{rows.dtype} {list(rows.shape)}"
        msg = f"source {path}: expected x as numbers of shape [n, C], found {shape}"
        raise SourceError(msg, next_step="save rows or frames under the name x")
    if not len(rows):
        msg = f"source {path}: expected rows, found none"
        raise SourceError(msg)
    flat = rows.reshape(len(rows), -1)  # a frame of any shape is one row
    with np.errstate(over="ignore"):  # what does not fit float32 is infinite
        found["x"] = np.ascontiguousarray(flat, dtype=np.float32)
    found.setdefault("recording", np.zeros(len(rows), dtype=np.int32))
    for name, array in found.items():
        if array.shape[:1] != rows.shape[:1]:
            msg = f"source {path}: expected {len(rows)} of {name}, found {array.shape}"
            raise SourceError(msg)
    return found


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = ("x", "recording", "y")
            return {name: archive[name] for name in names if name in archive.files}
    except (*_READ_ERRORS, AttributeError, TypeError) as error:
        msg = f"source {path}: expected an .npz file, found: {error}"
        raise SourceError(msg, next_step="check source.path and the file") from error


def _starts(names: np.ndarray) -> list[int]:
    changes = np.flatnonzero(names[1:] != names[:-1]) + 1
    return [0, *(int(one) for one in changes)]
