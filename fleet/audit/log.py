# SPDX-License-Identifier: Apache-2.0
"""Appending to the audit log and verifying its chain.

Owns the table ``audit``. Every entry's digest covers the one before it, so that an
entry cannot be changed or taken out without the rest showing it. It decides nothing
about who may do what.
"""

import hashlib
from typing import Any

from sqlalchemy import Connection, insert, select

from edge_contract.canonical import encode_json
from fleet.errors import StateError
from fleet.store.tables import audit

_FIRST = bytes(32)


def append_audit(
    connection: Connection,
    *,
    time_us: int,
    actor: str,
    action: str,
    subject: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Append one entry inside the caller's write transaction.

    Args:
        connection: The transaction that also makes the audited change.
        time_us: When, in microseconds UTC.
        actor: Who: the token's name, or ``system``.
        action: What, dotted, e.g. ``device.add``.
        subject: To what, e.g. the device's id.
        detail: More, as JSON without floats (real numbers as decimal strings).
    """
    last = select(audit.c.digest).order_by(audit.c.id.desc()).limit(1)
    previous: bytes = connection.execute(last).scalar() or _FIRST
    entry = {
        "time_us": time_us,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": detail or {},
    }
    connection.execute(
        insert(audit).values(
            **entry, previous=previous, digest=_entry_digest(previous, entry)
        )
    )


def verify_audit(connection: Connection) -> int:
    """Check the whole chain and return the number of entries.

    Raises:
        StateError: An entry does not continue the one before it.
    """
    previous, count = _FIRST, 0
    for row in connection.execute(select(audit).order_by(audit.c.id)).mappings():
        entry = {
            key: row[key] for key in ("time_us", "actor", "action", "subject", "detail")
        }
        expected = _entry_digest(previous, entry)
        if row["previous"] != previous or row["digest"] != expected:
            message = f"audit log: entry {row['id']} does not continue the chain"
            raise StateError(message, next_step="compare with a backup of the database")
        previous, count = expected, count + 1
    return count


def _entry_digest(previous: bytes, entry: dict[str, Any]) -> bytes:
    return hashlib.sha256(previous + encode_json(entry)).digest()
