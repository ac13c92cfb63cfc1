# SPDX-License-Identifier: Apache-2.0
"""Signatures of trust metadata that are about to end.

Owns the table ``ending_signatures``: the registry writes it, alerts read it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from fleet.store.tables import ending_signatures


def replace_ending_signatures(
    connection: Connection, rows: Sequence[Mapping[str, str]]
) -> None:
    """Note all signatures that are about to end: ``role``, ``title``, ``next_step``."""
    connection.execute(delete(ending_signatures))
    if rows:
        connection.execute(insert(ending_signatures), [dict(one) for one in rows])


def list_ending_signatures(connection: Connection) -> list[dict[str, Any]]:
    """Return what was noted last, by role."""
    query = select(ending_signatures).order_by(ending_signatures.c.role)
    return [dict(one) for one in connection.execute(query).mappings()]
