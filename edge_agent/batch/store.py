# SPDX-License-Identifier: Apache-2.0
"""The store of predictions: one SQLite file, complete or to be gone on with.

Owns its tables (docs/reference/predictions.md). Rows and their number are committed in
one transaction: after a kill or a power cut the file holds the first ``done`` rows and
nothing else, and says from which input and model they are.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from edge_agent.errors import BatchError
from edge_agent.flow import Float32

FORMAT: Final = "1"
_BUSY_SECONDS: Final = 30.0
_LOOK_UP_SECONDS: Final = 2.0
_TABLES: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE predictions (key TEXT PRIMARY KEY, row INTEGER NOT NULL,
    output BLOB, label TEXT, score REAL, error TEXT) WITHOUT ROWID""",
)
_AGAIN: Final = "name another file with -o, or remove this one"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store is the answer to; never mixed with another.

    Attributes:
        input: SHA-256 of the input file.
        key: The column or array of the keys; empty for row numbers.
        model: Its name.
        digest: The release.
        variant: What computed it.
        labels: Names of the classes, as JSON.
    """

    input: str
    key: str
    model: str
    digest: str
    variant: str
    labels: str


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One row: ``output`` is None where ``error`` says why."""

    key: str
    row: int
    output: Float32 | None
    error: str | None = None


class BatchStore:
    """A store being written.

    Args:
        path: Made where there is none.
        identity: What goes into it.

    Raises:
        BatchError: It holds something else, or cannot be written.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self._labels: list[str] = json.loads(identity.labels)
        try:
            self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        try:
            self.done = self._open(identity)
        except sqlite3.Error as error:
            self._database.close()
            raise _unusable(path, error) from error
        except BatchError:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Commit the next rows.

        Raises:
            BatchError: A key is there twice, or another process writes the store.
        """
        try:
            with self._database as transaction:
                transaction.execute("BEGIN IMMEDIATE")
                self._check_alone()
                self._insert(transaction, predictions)
                done = self.done + len(predictions)
                transaction.execute(
                    "UPDATE meta SET value = ? WHERE name = 'done'", (str(done),)
                )
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        self.done = done

    def finish(self) -> None:
        """Say that no row is missing."""
        try:
            with self._database as transaction:
                transaction.execute(
                    "UPDATE meta SET value = '1' WHERE name = 'complete'"
                )
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error

    def count_failed(self) -> int:
        """Return how many rows have no output."""
        query = "SELECT count(*) FROM predictions WHERE output IS NULL"
        (count,) = self._database.execute(query).fetchone()
        return int(count)

    @property
    def meta(self) -> Mapping[str, str]:
        """What the store says of itself."""
        return read_meta(self._database)

    def read(self) -> sqlite3.Cursor:
        """Return key, output, label, score and error, in the order of the input."""
        return self._database.execute(
            "SELECT key, output, label, score, error FROM predictions ORDER BY row"
        )

    def _open(self, identity: Identity) -> int:
        self._database.execute("PRAGMA synchronous = FULL")
        wanted = {"format": FORMAT, **asdict(identity)}
        with self._database as transaction:
            transaction.execute("BEGIN IMMEDIATE")
            if not transaction.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _TABLES:
                    transaction.execute(statement)
                first = {**wanted, "done": "0", "complete": "0"}
                transaction.executemany("INSERT INTO meta VALUES (?, ?)", first.items())
            found = read_meta(transaction)
        for name, value in wanted.items():
            if found.get(name) != value:
                msg = (
                    f"{self._path}: expected predictions of {name} {value!r}, found "
                    f"those of {found.get(name)!r}"
                )
                raise BatchError(msg, next_step=_AGAIN)
        return int(found["done"])

    def _check_alone(self) -> None:
        if read_meta(self._database)["done"] != str(self.done):
            msg = f"{self._path}: another edge-agent batch writes it"
            raise BatchError(msg, next_step="let that one end")

    def _insert(
        self, transaction: sqlite3.Connection, predictions: Sequence[Prediction]
    ) -> None:
        for one in predictions:
            try:
                transaction.execute(
                    "INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?)",
                    (one.key, one.row, *self._columns(one)),
                )
            except sqlite3.IntegrityError as error:
                msg = f"row {one.row}: its key {one.key!r} was there before"
                raise BatchError(
                    msg, next_step="name a column of unique values with --key"
                ) from error

    def _columns(self, one: Prediction) -> tuple[Any, ...]:
        if one.output is None:
            return None, None, None, one.error
        output = one.output.astype("<f4").tobytes()
        if not self._labels:
            return output, None, None, None
        best = int(one.output.argmax())
        return output, self._labels[best], float(one.output[best]), None


class StoredPredictions:
    """The production ``edge_agent.flow.Predictions``: a file is opened a look-up.

    So a store may be replaced at any time, and a finished one costs nothing.

    Args:
        paths: Stores by name.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)

    @property
    def names(self) -> Sequence[str]:
        """The stores, in the order of the configuration."""
        return tuple(self._paths)

    def find(self, store: str, key: str) -> Mapping[str, object] | None:
        """Return the prediction under ``key``; see ``Predictions.find``."""
        path = self._paths.get(store)
        if path is None:
            msg = f"store {store!r}: there is none"
            raise BatchError(msg)
        # Not read-only: after a kill of the writer the first reader rolls back.
        address = f"{path.resolve().as_uri()}?mode=rw"
        try:
            with closing(
                sqlite3.connect(address, uri=True, timeout=_LOOK_UP_SECONDS)
            ) as database:
                database.execute("PRAGMA query_only = 1")
                meta = read_meta(database)
                row = database.execute(
                    "SELECT row, output, label, score, error FROM predictions "
                    "WHERE key = ?",
                    (key,),
                ).fetchone()
            return None if row is None else _describe(store, key, meta, row)
        except (sqlite3.Error, ValueError, TypeError) as error:
            msg = f"store {store}: it cannot be read: {error}"
            raise BatchError(msg, next_step="run edge-agent batch again") from error


def read_meta(database: sqlite3.Connection) -> dict[str, str]:
    """Return what a store says of itself."""
    return dict(database.execute("SELECT name, value FROM meta").fetchall())


def _describe(
    store: str, key: str, meta: Mapping[str, str], row: tuple[Any, ...]
) -> dict[str, object]:
    number, output, label, score, error = row
    values = None if output is None else np.frombuffer(output, "<f4").tolist()
    return {
        "store": store,
        "key": key,
        "row": number,
        "model": meta.get("model"),
        "digest": meta.get("digest"),
        "output": values,
        "label": label,
        "score": score,
        "error": error,
    }


def _unusable(path: Path, error: sqlite3.Error) -> BatchError:
    msg = f"{path}: expected a store of predictions, found: {error}"
    return BatchError(msg, next_step=_AGAIN)
