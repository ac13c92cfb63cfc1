# SPDX-License-Identifier: Apache-2.0
"""The table that predictions are computed from: an array file or a CSV file.

Owns its forms (docs/reference/predictions.md): one entry is one frame, under one key.
Files come from anywhere: only ``BatchError`` is raised for what is in them.
"""

import csv
import hashlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_agent.errors import BatchError
from edge_agent.flow import Float32

MAX_KEY: Final = 512
BLOCK: Final = 256
_ASIDE: Final = frozenset({"y", "recording", "group"})
_ARRAY_ERRORS: Final = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    zipfile.BadZipFile,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive entries.

    Attributes:
        start: Number of the first.
        keys: One each.
        frames: float32 [n, ...], the model's input without its batch.
    """

    start: int
    keys: Sequence[str]
    frames: Float32


@dataclass(frozen=True, slots=True)
class Form:
    """What a table must hold.

    Attributes:
        shape: A frame's.
        features: Names of its values, where a column is one; empty else.
        key: The column or array of keys; empty for the number of the entry.
    """

    shape: tuple[int, ...]
    features: tuple[str, ...]
    key: str


def find_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        BatchError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise BatchError(msg, next_step="name a file with --input") from error


def read_blocks(path: Path, form: Form, start: int) -> Iterator[Block]:
    """Yield the entries of a table from number ``start`` on.

    Raises:
        BatchError: Not a table of this form.
    """
    kinds = {".npz": _read_arrays, ".npy": _read_arrays, ".csv": _read_csv}
    read = kinds.get(path.suffix.lower())
    if read is None:
        msg = f"{path}: expected .npz, .npy or .csv, found {path.suffix!r}"
        raise BatchError(msg, next_step="save the table in one of these forms")
    yield from read(path, form, start)


def _read_arrays(path: Path, form: Form, start: int) -> Iterator[Block]:
    frames, keys = _load_arrays(path, form)
    for first in range(start, len(frames), BLOCK):
        part = frames[first : first + BLOCK]
        names = (
            [str(first + index) for index in range(len(part))]
            if keys is None
            else [str(one) for one in keys[first : first + BLOCK]]
        )
        _check_keys(names, first)
        shaped = part.reshape(len(part), *form.shape).astype(np.float32)
        yield Block(first, names, shaped)


def _load_arrays(path: Path, form: Form) -> tuple[np.ndarray, np.ndarray | None]:
    keys: np.ndarray | None = None
    try:
        with path.open("rb") as stream:  # np.load leaves a damaged file open
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                frames = found["x"]
                keys = found[form.key] if form.key else None
            else:
                frames = found
    except _ARRAY_ERRORS as error:
        msg = f"{path}: expected an array x{_and_key(form)}: {error}"
        raise BatchError(msg, next_step="save frames [n, ...] as x") from error
    if frames.dtype.kind not in "fiu" or frames.shape[1:] not in {
        form.shape,
        (math.prod(form.shape),),
    }:
        msg = (
            f"{path}: expected x as numbers [n, {', '.join(map(str, form.shape))}], "
            f"found {frames.dtype} {list(frames.shape)}"
        )
        raise BatchError(msg, next_step="one entry is one frame of the model's")
    if form.key and (keys is None or keys.shape != frames.shape[:1]):
        msg = f"{path}: expected {len(frames)} keys in {form.key}, found others"
        raise BatchError(msg, next_step="name an array of one key an entry with --key")
    return frames, keys


def _read_csv(path: Path, form: Form, start: int) -> Iterator[Block]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            columns = _find_columns(path, header, form)
            at = header.index(form.key) if form.key else -1
            rows: list[tuple[str, list[float]]] = []
            number = 0
            for row in reader:
                if number >= start:
                    where = f"{path}: line {reader.line_num}"
                    key = _cell(row, at, where) if form.key else str(number)
                    rows.append((key, _numbers(row, columns, header, where)))
                number += 1
                if len(rows) == BLOCK:
                    yield _block(rows, number, form)
                    rows = []
            if rows:
                yield _block(rows, number, form)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: expected a CSV file in UTF-8: {error}"
        raise BatchError(msg, next_step="check --input") from error


def _find_columns(path: Path, header: Sequence[str], form: Form) -> list[int]:
    if len(set(header)) < len(header) or (form.key and form.key not in header):
        msg = f"{path}: expected columns of different names{_and_key(form)}"
        raise BatchError(msg, next_step="check the first line of the file")
    names = [one for one in header if one not in _ASIDE and one != form.key]
    expected = math.prod(form.shape)
    if len(names) != expected:
        msg = f"{path}: expected {expected} columns of numbers, found {len(names)}"
        raise BatchError(msg, next_step="name the column of the keys with --key")
    if set(names) == set(form.features):
        names = list(form.features)
    return [header.index(one) for one in names]


def _numbers(
    row: Sequence[str], columns: Sequence[int], header: Sequence[str], where: str
) -> list[float]:
    values = []
    for at in columns:
        text = _cell(row, at, where)
        try:
            values.append(float(text) if text.strip() else math.nan)
        except ValueError as error:
            msg = f"{where}: {header[at]}: expected a number, found {text[:40]!r}"
            raise BatchError(msg, next_step="leave it empty where it is missing") from (
                error
            )
    return values


def _cell(row: Sequence[str], at: int, where: str) -> str:
    if at >= len(row):
        msg = f"{where}: expected at least {at + 1} cells, found {len(row)}"
        raise BatchError(msg)
    return row[at]


def _block(rows: Sequence[tuple[str, list[float]]], end: int, form: Form) -> Block:
    start = end - len(rows)
    keys = [key for key, _ in rows]
    _check_keys(keys, start)
    with np.errstate(over="ignore"):
        values = np.array([values for _, values in rows], np.float32)
    return Block(start, keys, values.reshape(len(rows), *form.shape))


def _check_keys(keys: Sequence[str], start: int) -> None:
    for number, key in enumerate(keys, start=start):
        if not 0 < len(key) <= MAX_KEY or not key.isprintable():
            msg = f"row {number}: expected a key of 1 to {MAX_KEY} printable characters"
            raise BatchError(msg, next_step="name another column with --key")


def _and_key(form: Form) -> str:
    return f" and keys in {form.key}" if form.key else ""
