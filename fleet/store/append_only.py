# SPDX-License-Identifier: Apache-2.0
"""Tables whose rows the database itself lets nobody change or delete.

Owns the triggers, for SQLite and PostgreSQL; they are made with the table. Who owns
the database file can still drop them: against that stands the chain in ``audit.log``.
"""

from typing import Any

from sqlalchemy import DDL, Table, event

_SQLITE = """
CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END
"""
_POSTGRESQL_FUNCTION = """
CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$
"""
_POSTGRESQL_TRIGGER = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()
"""
_POSTGRESQL_DROP = "DROP FUNCTION IF EXISTS {table}_append_only"


def make_append_only(table: Table) -> None:
    """Add the triggers to what creating ``table`` does."""
    _listen(table, "after_create", "sqlite", _SQLITE, verb="update")
    _listen(table, "after_create", "sqlite", _SQLITE, verb="delete")
    _listen(table, "after_create", "postgresql", _POSTGRESQL_FUNCTION)
    _listen(table, "after_create", "postgresql", _POSTGRESQL_TRIGGER)
    _listen(table, "after_drop", "postgresql", _POSTGRESQL_DROP)


def _listen(
    table: Table, moment: str, dialect: str, statement: str, **words: str
) -> None:
    make: Any = DDL  # the library gives it no types
    text = statement.strip().format(table=table.name, **words)
    event.listen(table, moment, make(text).execute_if(dialect=dialect))
