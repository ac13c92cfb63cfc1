# SPDX-License-Identifier: Apache-2.0
"""What is known of the errors of models: labels, shadows, confidence of late.

Owns the queries of these sums, and the table ``drift_performance``. What they mean is
``fleet.drift``'s.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from fleet.store.tables import (
    devices,
    drift_performance,
    models,
    presence,
    rollups,
    shadows,
    windows,
)

Row = dict[str, Any]


def list_streams(connection: Connection) -> Sequence[tuple[str, bytes]]:
    """Return (fleet, ref_id) of all windows of devices that may speak."""
    query = (
        select(devices.c.fleet, rollups.c.ref_id)
        .join_from(rollups, devices, rollups.c.device == devices.c.id)
        .where(rollups.c.level == "all", devices.c.revoked_us.is_(None))
        .distinct()
        .order_by(devices.c.fleet, rollups.c.ref_id)
    )
    return [(row.fleet, row.ref_id) for row in connection.execute(query)]


def list_labelled_windows_since(
    connection: Connection, fleet: str, ref_id: bytes, window_id: int, *, limit: int
) -> Sequence[Row]:
    """Return ``id``, ``device`` and ``feedback`` of windows with labels, in order."""
    query = (
        select(windows.c.id, windows.c.device, windows.c.feedback)
        .where(
            windows.c.id > window_id,
            windows.c.fleet == fleet,
            windows.c.ref_id == ref_id,
            windows.c.feedback.is_not(None),
        )
        .order_by(windows.c.id)
        .limit(limit)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_hours_since(
    connection: Connection, fleet: str, ref_id: bytes, since_us: int
) -> Sequence[Row]:
    """Return a fleet's hourly roll-ups from a time on, by device."""
    query = (
        select(rollups)
        .join_from(rollups, devices, rollups.c.device == devices.c.id)
        .where(
            devices.c.fleet == fleet,
            devices.c.revoked_us.is_(None),
            rollups.c.ref_id == ref_id,
            rollups.c.level == "hour",
            rollups.c.bucket_us >= since_us,
        )
        .order_by(rollups.c.device)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_device_hours_since(
    connection: Connection, device: str, ref_id: bytes, since_us: int
) -> Sequence[Row]:
    """Return a device's hourly roll-ups from a time on."""
    query = select(rollups).where(
        rollups.c.device == device,
        rollups.c.ref_id == ref_id,
        rollups.c.level == "hour",
        rollups.c.bucket_us >= since_us,
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_shadow_sums(
    connection: Connection, fleet: str, ref_id: bytes
) -> Sequence[Row]:
    """Return what shadows made of the same inputs, with each device's birth."""
    query = (
        select(shadows, presence.c.birth, presence.c.serving)
        .select_from(
            shadows.join(devices, shadows.c.device == devices.c.id).outerjoin(
                presence, presence.c.device == devices.c.id
            )
        )
        .where(
            devices.c.fleet == fleet,
            devices.c.revoked_us.is_(None),
            shadows.c.ref_id == ref_id,
        )
        .order_by(shadows.c.device)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_manifests(connection: Connection) -> dict[bytes, Row]:
    """Return the manifest of each release by the first 8 bytes of its digest."""
    query = select(models.c.digest, models.c.manifest)
    rows = connection.execute(query)
    return {bytes.fromhex(one.digest)[:8]: dict(one.manifest) for one in rows}


def has_hour_since(
    connection: Connection, fleet: str, ref_id: bytes, since_us: int
) -> bool:
    """Whether any device of a fleet has an hourly roll-up from a time on."""
    query = (
        select(rollups.c.device)
        .join_from(rollups, devices, rollups.c.device == devices.c.id)
        .where(
            devices.c.fleet == fleet,
            rollups.c.ref_id == ref_id,
            rollups.c.level == "hour",
            rollups.c.bucket_us >= since_us,
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


def replace_performance(
    connection: Connection, fleet: str, ref_id: bytes, document: Row
) -> None:
    """Store what is known of a model's errors in a fleet."""
    table = drift_performance
    connection.execute(
        delete(table).where(table.c.fleet == fleet, table.c.ref_id == ref_id)
    )
    connection.execute(
        insert(table).values(fleet=fleet, ref_id=ref_id, document=document)
    )


def list_performance(connection: Connection, fleet: str | None) -> Sequence[Row]:
    """Return what is known of the errors of models."""
    table = drift_performance
    query = select(table).order_by(table.c.fleet, table.c.ref_id)
    if fleet is not None:
        query = query.where(table.c.fleet == fleet)
    return [dict(one) for one in connection.execute(query).mappings()]
