# SPDX-License-Identifier: Apache-2.0
"""Durable counters that only grow: command numbers, desired versions.

Owns the table ``counters``. The caller brings the transaction, so that a number is
taken together with what it numbers or not at all.
"""

from sqlalchemy import Connection, insert, select, update

from fleet.store.tables import counters


def read_counter(connection: Connection, name: str) -> int:
    """Return the counter's value, 0 when it was never raised."""
    query = select(counters.c.value).where(counters.c.name == name)
    return connection.execute(query).scalar() or 0


def raise_counter(connection: Connection, name: str, *, above: int = 0) -> int:
    """Raise the counter by one, and above ``above``; return the new value."""
    current = read_counter(connection, name)
    value = max(current, above) + 1
    set_counter(connection, name, value)
    return value


def set_counter(connection: Connection, name: str, value: int) -> None:
    """Write the counter's value."""
    done = connection.execute(
        update(counters).where(counters.c.name == name).values(value=value)
    )
    if done.rowcount == 0:
        connection.execute(insert(counters).values(name=name, value=value))
