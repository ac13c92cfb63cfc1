# SPDX-License-Identifier: Apache-2.0
"""Reading devices and their presence.

Owns the queries that several features need. Only ``devices`` and ``ingest`` write
these tables.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, Select, select

from fleet.errors import NotFoundError
from fleet.store.tables import devices, presence, update_reports


def list_devices(
    connection: Connection, fleet: str | None = None
) -> Sequence[RowMapping]:
    """Return the devices that are not revoked, with their presence, by id.

    Columns: ``id fleet epoch tags created_us last_seen_us online_hint serving birth``;
    the last four are None before a device's first message.
    """
    query = _joined().where(devices.c.revoked_us.is_(None)).order_by(devices.c.id)
    if fleet is not None:
        query = query.where(devices.c.fleet == fleet)
    return connection.execute(query).mappings().all()


def find_device(connection: Connection, device: str) -> RowMapping:
    """Return one device with its presence.

    Raises:
        NotFoundError: No device has this id.
    """
    query = _joined().where(devices.c.id == device)
    row = connection.execute(query).mappings().first()
    if row is None:
        message = f"device {device}: expected a device of this server, found none"
        raise NotFoundError(message, next_step="see `edge-fleet device list`")
    return row


def list_update_reports(
    connection: Connection, device: str, *, limit: int
) -> Sequence[RowMapping]:
    """Return a device's latest update reports, the latest first."""
    query = (
        select(update_reports)
        .where(update_reports.c.device == device)
        .order_by(update_reports.c.id.desc())
        .limit(limit)
    )
    return connection.execute(query).mappings().all()


def _joined() -> Select[tuple[object, ...]]:
    return select(
        devices.c.id,
        devices.c.fleet,
        devices.c.epoch,
        devices.c.tags,
        devices.c.created_us,
        devices.c.revoked_us,
        presence.c.last_seen_us,
        presence.c.online_hint,
        presence.c.serving,
        presence.c.birth,
    ).select_from(devices.outerjoin(presence, presence.c.device == devices.c.id))
