# SPDX-License-Identifier: Apache-2.0
"""The ``sqlite`` sink: a row an inference, and the look-up of a result by its id.

Owns the table (docs/reference/sources-and-sinks.md) and what is forgotten: the oldest
rows above a number, and above a size. A batch is one transaction under a write-ahead
log: a kill or a power failure leaves whole batches, the last ones perhaps missing.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from edge_agent.config.sinks import SqliteSinkConfig
from edge_agent.errors import SinkError
from edge_agent.flow import Result
from edge_agent.sinks.lines import describe_result

VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE results (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    t_us INTEGER NOT NULL,
    stream TEXT NOT NULL,
    digest TEXT NOT NULL,
    label TEXT,
    score REAL,
    output TEXT,
    error TEXT
);
CREATE INDEX results_id ON results (id);
PRAGMA user_version = {VERSION};
"""
_INSERT: Final = (
    "INSERT INTO results (id, t_us, stream, digest, label, score, output, error) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_FORGET: Final = (
    "DELETE FROM results WHERE number <= (SELECT max(number) FROM results) - ?"
)
_SHARE_KEPT: Final = 0.9


class SqliteOutlet:
    """Appends results to a database.

    Args:
        config: What it was told.

    Raises:
        SinkError: It cannot be opened, or another program's data is in it.
    """

    def __init__(self, config: SqliteSinkConfig) -> None:
        self._path = config.path
        self._max_rows = config.max_rows
        self._max_bytes = config.max_size.bytes
        try:
            self._database = sqlite3.connect(
                config.path, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._failed("cannot be opened", error) from error
        try:
            self._prepare()
        except (sqlite3.Error, SinkError) as error:
            self._database.close()
            if isinstance(error, SinkError):
                raise
            raise self._failed("cannot be opened", error) from error

    def put(self, results: Sequence[Result]) -> int:
        """Append results in one transaction; see ``Outlet.put``.

        Raises:
            SinkError: The disk or the database refused; nothing was appended.
        """
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany(_INSERT, [_row(one) for one in results])
            database.execute(_FORGET, (self._max_rows,))
            self._forget_bytes()
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise self._failed("cannot be written", error) from error
        return len(results)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        elif version != VERSION:
            msg = f"sink {self._path}: expected results of version {VERSION}, found"
            msg += f" a database of version {version}"
            raise SinkError(msg, next_step="name another file")

    def _forget_bytes(self) -> None:
        if self._used_bytes() <= self._max_bytes:
            return
        (rows,) = self._database.execute("SELECT count(*) FROM results").fetchone()
        self._database.execute(_FORGET, (int(rows * _SHARE_KEPT),))

    def _used_bytes(self) -> int:
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def _failed(self, what: str, error: Exception) -> SinkError:
        msg = f"sink {self._path}: {what}: {error}"
        return SinkError(msg, next_step="check the file, and the space on the disk")


def find_results(path: Path, result_id: str) -> list[dict[str, Any]]:
    """Return the results under an id, the newest first.

    Raises:
        SinkError: The database cannot be read.
    """
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.row_factory = sqlite3.Row
            query = "SELECT * FROM results WHERE id = ? ORDER BY number DESC"
            rows = [dict(one) for one in database.execute(query, (result_id,))]
    except sqlite3.Error as error:
        msg = f"{path}: expected a database of results, found: {error}"
        raise SinkError(msg, next_step="name the path of a sqlite sink") from error
    for row in rows:
        row["output"] = None if row["output"] is None else json.loads(row["output"])
    return rows


def _row(result: Result) -> tuple[object, ...]:
    described = describe_result(result)
    output = described.get("output")
    label, score = result.ranked[0] if result.ranked else (None, None)
    return (
        result.id,
        result.time_us,
        result.stream,
        result.digest,
        label,
        score,
        None if output is None else json.dumps(output),
        result.error,
    )
