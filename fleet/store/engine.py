# SPDX-License-Identifier: Apache-2.0
"""Opening the database and its transactions.

Owns the connection settings: on SQLite write-ahead logging, full synchronisation (a
committed window must survive a power cut) and ``BEGIN IMMEDIATE`` for writers, so that
two writers wait for each other and never fail half-way. It holds no query.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

_WRITE_OPTION = "edgeloop_write"
_BUSY_TIMEOUT_MS = 30_000


def database_url(path: Path) -> str:
    """Return the SQLAlchemy URL of the SQLite file at ``path``."""
    return f"sqlite:///{path}"


def open_engine(url: str) -> Engine:
    """Open the database at ``url``; it must have been migrated before use."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection whose reads all see one state of the database."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection inside one write transaction.

    It commits when the block ends and rolls back when it raises. On SQLite the lock is
    taken at the start, so a read inside never goes stale before the write.
    """
    options = {_WRITE_OPTION: True}
    with (
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


def _configure_sqlite(connection: SqliteConnection, _record: Any) -> None:
    # The driver must not begin transactions by itself: ``_begin_sqlite`` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
