# SPDX-License-Identifier: Apache-2.0
"""Appending to the audit log and verifying its chain.

Owns the table ``audit``. Every entry's digest covers the one before it, so that an
entry cannot be changed or taken out without the rest showing it. It decides nothing
about who may do what.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

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
        actor: Who: ``user:`` and a name of the operating system, the token's name, or
            ``system``.
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


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that holds.

    Attributes:
        entries: How many there are.
        head: The digest of the last one; 32 zero bytes before the first.
    """

    entries: int
    head: bytes


def verify_audit(connection: Connection, known: bytes | None = None) -> Chain:
    """Check the whole chain.

    Args:
        connection: A reading transaction.
        known: A head that was noted earlier; it must be one of the entries. Without
            it, entries that were cut off at the end cannot be seen.

    Raises:
        StateError: An entry does not continue the one before it, or the known head is
            not there.
    """
    previous, count, is_found = _FIRST, 0, known in {None, _FIRST}
    for row in connection.execute(select(audit).order_by(audit.c.id)).mappings():
        entry = {
            key: row[key] for key in ("time_us", "actor", "action", "subject", "detail")
        }
        expected = _entry_digest(previous, entry)
        if row["previous"] != previous or row["digest"] != expected:
            message = f"audit log: entry {row['id']} does not continue the chain"
            raise StateError(message, next_step="compare with a backup of the database")
        previous, count = expected, count + 1
        is_found = is_found or expected == known
    if not is_found and known is not None:
        message = (
            f"audit log: expected the head {known.hex()[:16]} among {count} entries"
        )
        step = "entries were cut off, or it is another server's: compare with a backup"
        raise StateError(f"{message}, found it not", next_step=step)
    return Chain(count, previous)


def list_entries(
    connection: Connection, *, subject: str | None, before: int | None, limit: int
) -> Sequence[RowMapping]:
    """Return entries, the latest first.

    Args:
        connection: A reading transaction.
        subject: Only those about it.
        before: Only those with a lower id.
        limit: At most so many.
    """
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    if before is not None:
        query = query.where(audit.c.id < before)
    return connection.execute(query).mappings().all()


def _entry_digest(previous: bytes, entry: dict[str, Any]) -> bytes:
    return hashlib.sha256(previous + encode_json(entry)).digest()
