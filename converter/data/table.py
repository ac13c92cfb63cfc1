# SPDX-License-Identifier: Apache-2.0
"""Tables: ``.csv`` files, and ``.parquet`` files where pyarrow is installed.

Owns which columns are what: ``y``, ``recording`` and ``group`` by their names (and the
column that ``--group`` names), every other one is a feature, in order.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from converter.data.entries import BLOCK, SIDE_ARRAYS, Sides, check_finite
from converter.data.npz import file_digest
from converter.errors import ConvertDataError
from converter.tensors import Float32

_MAX_FIELD: Final = 1 << 20


class TableEntries:
    """A file of rows with named columns.

    Args:
        path: A ``.csv`` file with a header, or a ``.parquet`` file.
        group: A further side column, or empty.

    Raises:
        ConvertDataError: It cannot be read, or has no columns of numbers.
    """

    def __init__(self, path: Path, *, group: str = "") -> None:
        self.name = path.name
        self._path = path
        self._is_csv = path.suffix.lower() == ".csv"
        self.sha256 = file_digest(path)
        self._sides = {*SIDE_ARRAYS} | ({group} if group else set())
        columns = self._columns()
        if len(set(columns)) != len(columns) or not all(columns):
            msg = f"{self.name}: expected a header of different names, found {columns}"
            raise ConvertDataError(msg, next_step="name each column once")
        self._features = tuple(one for one in columns if one not in self._sides)
        if group and group not in columns:
            msg = f"{self.name}: --group: expected a column {group!r}, found {columns}"
            raise ConvertDataError(msg, next_step="name a column")
        if not self._features:
            msg = f"{self.name}: expected columns of features, found {columns}"
            raise ConvertDataError(msg, next_step="add the model's inputs")
        self.shape: tuple[int, ...] = (len(self._features),)
        self.count, self.sides = self._scan(columns)

    def blocks(self) -> Iterator[Float32]:
        """Yield blocks; see ``Entries.blocks``."""
        start = 0
        for table in self._tables():
            columns = [self._numbers(table[one], start, one) for one in self._features]
            block = np.stack(columns, axis=1)
            yield check_finite(block, start, self.name)
            start += len(block)

    def _scan(self, columns: list[str]) -> tuple[int, Sides]:
        kept: dict[str, list[Any]] = {one: [] for one in columns if one in self._sides}
        count = 0
        for table in self._tables():
            count += len(next(iter(table.values())))
            for name, values in kept.items():
                values.extend(table[name])
        arrays = {name: self._side(name, values) for name, values in kept.items()}
        return count, Sides(arrays, self._features)

    def _side(self, name: str, values: list[Any]) -> np.ndarray:
        if name != "y":
            return np.array([str(one) for one in values])
        try:
            return np.array([int(one) for one in values], dtype=np.int64)
        except (ValueError, TypeError):
            return self._numbers(values, 0, name)

    def _numbers(self, values: Any, start: int, column: str) -> Float32:
        try:
            return np.asarray(values, dtype=np.float64).astype(np.float32)
        except (ValueError, TypeError):
            line = next(
                index for index, one in enumerate(values) if not _is_number(one)
            )
        msg = f"{self.name}: row {start + line + 1}, column {column}: expected a"
        msg += f" number, found {str(values[line])[:40]!r}"
        raise ConvertDataError(msg, next_step="repair or drop this row")

    def _columns(self) -> list[str]:
        if self._is_csv:
            with self._csv() as reader:
                return [one.strip() for one in next(reader, [])]
        return list(self._parquet().schema_arrow.names)

    def _tables(self) -> Iterator[dict[str, Any]]:
        if self._is_csv:
            yield from self._csv_tables()
        else:
            for batch in self._parquet().iter_batches(batch_size=BLOCK):
                if batch.num_rows:
                    yield {
                        name: column.to_pylist()
                        for name, column in zip(
                            batch.schema.names, batch.columns, strict=True
                        )
                    }

    def _csv_tables(self) -> Iterator[dict[str, Any]]:
        with self._csv() as reader:
            names = [one.strip() for one in next(reader)]
            rows: list[list[str]] = []
            for row in reader:
                if len(row) != len(names):
                    msg = f"{self.name}: line {reader.line_num}: expected"
                    msg += f" {len(names)} fields, found {len(row)}"
                    raise ConvertDataError(msg, next_step="repair or drop this line")
                rows.append(row)
                if len(rows) == BLOCK:
                    yield dict(zip(names, zip(*rows, strict=True), strict=True))
                    rows = []
            if rows:
                yield dict(zip(names, zip(*rows, strict=True), strict=True))

    def _csv(self) -> "_Csv":
        return _Csv(self._path, self.name)

    def _parquet(self) -> Any:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as error:
            msg = f"{self.name}: reading Parquet needs pyarrow"
            raise ConvertDataError(
                msg, next_step="pip install 'edgeloop[parquet]'"
            ) from error
        try:
            return parquet.ParquetFile(self._path)
        except (ArrowException, OSError) as error:
            msg = f"{self.name}: expected a Parquet file, found: {error}"
            raise ConvertDataError(msg, next_step="write it again") from error


class _Csv:
    """A CSV reader whose failures are ours."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        self._stream = path.open(encoding="utf-8", newline="")
        self._reader = csv.reader(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    @property
    def line_num(self) -> int:
        return self._reader.line_num

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str]:
        try:
            row = next(self._reader)
        except (csv.Error, UnicodeDecodeError) as error:
            msg = (
                f"{self._name}: line {self.line_num + 1}: expected CSV, found: {error}"
            )
            raise ConvertDataError(msg, next_step="save it as UTF-8 CSV") from error
        if sum(map(len, row)) > _MAX_FIELD:
            msg = f"{self._name}: line {self.line_num}: longer than {_MAX_FIELD}"
            raise ConvertDataError(msg, next_step="look for an unclosed quote")
        return row


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True
