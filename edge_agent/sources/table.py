# SPDX-License-Identifier: Apache-2.0
"""Recordings in ``.csv`` and ``.parquet`` files, as arrays.

Owns which columns are what, as in the converter's data files: ``y``, ``recording`` and
``group`` by name, every other one a value of the row. An empty cell is a missing value.
Parquet needs pyarrow, which has no wheels for armv7l.
"""

import csv
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.errors import SourceError

SIDES: Final = ("y", "recording", "group")
NO_PARQUET: Final = "armv7l"
_MAX_LINE: Final = 1 << 20


def load_table(path: Path, machine: str | None = None) -> dict[str, np.ndarray]:
    """Read a table.

    Args:
        path: A ``.csv`` file with a header, or a ``.parquet`` file.
        machine: Of which kind this device is; None asks it.

    Returns:
        ``x`` float64 [n, C] and, where the file has them, ``recording`` and ``y`` [n].

    Raises:
        SourceError: It cannot be read, or is not of this form.
    """
    if path.suffix.lower() == ".parquet":
        names, columns = _read_parquet(path, machine or platform.machine())
    else:
        names, columns = _read_csv(path)
    values = [place for place, name in enumerate(names) if name not in SIDES]
    if len(set(names)) != len(names) or not values:
        msg = f"source {path}: expected a header of different names with values"
        raise SourceError(f"{msg} among them, found {names[:8]}")
    found = {
        name: np.array([str(one) for one in column])
        for name, column in zip(names, columns, strict=True)
        if name == "recording"
    }
    if "y" in names:
        found["y"] = _labels(path, columns[names.index("y")])
    rows = [_numbers(path, names[place], columns[place]) for place in values]
    return {"x": np.stack(rows, axis=1), **found}


def _read_csv(path: Path) -> tuple[list[str], list[Sequence[Any]]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            names = [one.strip() for one in next(reader, [])]
            rows = []
            for row in reader:
                if len(row) != len(names) or sum(map(len, row)) > _MAX_LINE:
                    msg = f"source {path}: line {reader.line_num}: expected"
                    msg += f" {len(names)} cells, found {len(row)}"
                    raise SourceError(msg, next_step="repair or drop this line")
                rows.append(row)
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        msg = f"source {path}: expected a .csv file in UTF-8, found: {error}"
        raise SourceError(msg, next_step="check source.path and the file") from error
    return names, list(zip(*rows, strict=True)) or [() for _ in names]


def _read_parquet(path: Path, machine: str) -> tuple[list[str], list[Sequence[Any]]]:
    if machine == NO_PARQUET:
        msg = f"source {path}: Parquet cannot be read on {machine}: pyarrow has no"
        msg += " wheels for it"
        raise SourceError(msg, next_step="convert the file to .npz or .csv")
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        msg = f"source {path}: reading Parquet needs pyarrow"
        raise SourceError(msg, next_step="pip install 'edgeloop[parquet]'") from error
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        msg = f"source {path}: expected a .parquet file, found: {error}"
        raise SourceError(msg, next_step="check source.path and the file") from error
    return list(table.column_names), [one.to_pylist() for one in table.columns]


def _numbers(path: Path, name: str, column: Sequence[Any]) -> np.ndarray:
    values = [np.nan if one is None or one == "" else one for one in column]
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"source {path}: column {name}: expected numbers, found: {error}"
        raise SourceError(msg, next_step="repair the column") from error


def _labels(path: Path, column: Sequence[Any]) -> np.ndarray:
    try:
        return np.array([int(one) for one in column], dtype=np.int64)
    except (TypeError, ValueError):
        return _numbers(path, "y", column)
