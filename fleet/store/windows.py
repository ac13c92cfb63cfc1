# SPDX-License-Identifier: Apache-2.0
"""Reading windows and roll-ups.

Owns the queries that several features need. Only ``ingest`` writes these tables.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, func, select

from fleet.store.tables import rollups, totals, windows

HOUR_US = 3_600_000_000


def list_streams_since(
    connection: Connection, window_id: int
) -> Sequence[tuple[str, bytes]]:
    """Return (device, ref_id) of all streams with windows after ``window_id``."""
    query = (
        select(windows.c.device, windows.c.ref_id)
        .where(windows.c.id > window_id)
        .distinct()
    )
    return [(row.device, row.ref_id) for row in connection.execute(query)]


def list_windows_since(
    connection: Connection, device: str, ref_id: bytes, window_id: int, *, limit: int
) -> Sequence[RowMapping]:
    """Return a stream's windows after ``window_id`` in the order of arrival."""
    query = (
        select(windows)
        .where(
            windows.c.device == device,
            windows.c.ref_id == ref_id,
            windows.c.id > window_id,
        )
        .order_by(windows.c.id)
        .limit(limit)
    )
    return connection.execute(query).mappings().all()


def list_latest_windows(
    connection: Connection, device: str, *, limit: int
) -> Sequence[RowMapping]:
    """Return a device's latest windows, the latest first."""
    query = (
        select(windows)
        .where(windows.c.device == device)
        .order_by(windows.c.id.desc())
        .limit(limit)
    )
    return connection.execute(query).mappings().all()


def find_rollup(
    connection: Connection, device: str, ref_id: bytes, *, level: str, bucket_us: int
) -> RowMapping | None:
    """Return one roll-up; ``level`` is ``hour`` or ``all`` (with bucket 0)."""
    query = select(rollups).where(
        rollups.c.device == device,
        rollups.c.ref_id == ref_id,
        rollups.c.level == level,
        rollups.c.bucket_us == bucket_us,
    )
    return connection.execute(query).mappings().first()


def last_window_id(connection: Connection) -> int:
    """Return the id of the last window, 0 when there is none."""
    return connection.execute(select(func.max(windows.c.id))).scalar() or 0


def find_totals(connection: Connection, device: str) -> RowMapping | None:
    """Return a device's totals, None before its first message."""
    query = select(totals).where(totals.c.device == device)
    return connection.execute(query).mappings().first()
