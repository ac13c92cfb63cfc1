# SPDX-License-Identifier: Apache-2.0
"""Drift states of whole fleets, and the windows that they read.

Owns the tables ``drift_fleets`` and ``drift_views``, the order in which the fleetwide
rule reads windows, and which fleets are large enough for it. A large state is kept in
parts, since databases bound the size of one value.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from fleet.store.tables import (
    devices,
    drift_fleets,
    drift_views,
    rollups,
    verdicts,
    windows,
)

Row = dict[str, Any]
_PART_BYTES: Final = 16 * 1024 * 1024


def list_large_fleets(
    connection: Connection, least_devices: int
) -> Sequence[tuple[str, bytes]]:
    """Return (fleet, ref_id) where so many devices have sent windows."""
    query = (
        select(devices.c.fleet, rollups.c.ref_id)
        .join_from(rollups, devices, rollups.c.device == devices.c.id)
        .where(rollups.c.level == "all", devices.c.revoked_us.is_(None))
        .group_by(devices.c.fleet, rollups.c.ref_id)
        .having(func.count() >= least_devices)
        .order_by(devices.c.fleet, rollups.c.ref_id)
    )
    return [(row.fleet, row.ref_id) for row in connection.execute(query)]


def list_fleet_windows_since(
    connection: Connection, fleet: str, ref_id: bytes, window_id: int, *, limit: int
) -> Sequence[Row]:
    """Return a fleet's windows after ``window_id``, in the order of arrival."""
    query = (
        select(windows)
        .where(
            windows.c.id > window_id,
            windows.c.fleet == fleet,
            windows.c.ref_id == ref_id,
        )
        .order_by(windows.c.id)
        .limit(limit)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_windows_by_id(connection: Connection, ids: Collection[int]) -> Sequence[Row]:
    """Return windows by their ids, in the order of arrival."""
    found: list[Row] = []
    ordered = sorted(ids)
    for start in range(0, len(ordered), 500):
        some = ordered[start : start + 500]
        query = select(windows).where(windows.c.id.in_(some)).order_by(windows.c.id)
        found += [dict(one) for one in connection.execute(query).mappings()]
    return found


def list_windows_between(
    connection: Connection, device: str, ref_id: bytes, span_us: tuple[int, int]
) -> Sequence[Row]:
    """Return a device's windows that begin in a span of time, the latest 2,000."""
    query = (
        select(windows)
        .where(
            windows.c.device == device,
            windows.c.ref_id == ref_id,
            windows.c.start_us >= span_us[0],
            windows.c.start_us < span_us[1],
        )
        .order_by(windows.c.id.desc())
        .limit(2000)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def find_fleet_state(
    connection: Connection, fleet: str, ref_id: bytes
) -> tuple[bytes, int] | None:
    """Return a fleet's state and the last window that it holds, None before it."""
    query = (
        select(drift_fleets)
        .where(drift_fleets.c.fleet == fleet, drift_fleets.c.ref_id == ref_id)
        .order_by(drift_fleets.c.part)
    )
    rows = connection.execute(query).mappings().all()
    if not rows:
        return None
    return b"".join(row["state"] for row in rows), int(rows[0]["last_window_id"])


def replace_fleet_state(
    connection: Connection, key: tuple[str, bytes], state: bytes, values: Row
) -> None:
    """Store the only state of a fleet under a profile.

    Args:
        connection: The transaction.
        key: Fleet and ref_id.
        state: Its bytes.
        values: ``last_window_id`` and ``updated_us``.
    """
    fleet, ref_id = key
    connection.execute(
        delete(drift_fleets).where(
            drift_fleets.c.fleet == fleet, drift_fleets.c.ref_id == ref_id
        )
    )
    for part in range(-(-len(state) // _PART_BYTES)):
        data = state[part * _PART_BYTES : (part + 1) * _PART_BYTES]
        connection.execute(
            insert(drift_fleets).values(
                fleet=fleet, ref_id=ref_id, part=part, state=data, **values
            )
        )


def replace_view(
    connection: Connection, fleet: str, ref_id: bytes, document: Row
) -> None:
    """Store what a fleet's state says."""
    connection.execute(
        delete(drift_views).where(
            drift_views.c.fleet == fleet, drift_views.c.ref_id == ref_id
        )
    )
    connection.execute(
        insert(drift_views).values(fleet=fleet, ref_id=ref_id, document=document)
    )


def list_views(connection: Connection, fleet: str | None = None) -> Sequence[Row]:
    """Return what fleets' states say."""
    query = select(drift_views).order_by(drift_views.c.fleet, drift_views.c.ref_id)
    if fleet is not None:
        query = query.where(drift_views.c.fleet == fleet)
    return [dict(one) for one in connection.execute(query).mappings()]


def list_open_fleet_verdicts(
    connection: Connection, fleet: str, ref_id: bytes
) -> Sequence[Row]:
    """Return a fleet's open verdicts under a profile."""
    query = select(verdicts).where(
        verdicts.c.closed_us.is_(None),
        verdicts.c.fleet == fleet,
        verdicts.c.ref_id == ref_id,
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def find_slot_verdict(
    connection: Connection, key: tuple[str, bytes, str, str], slot: int
) -> bool:
    """Whether a verdict of (fleet, ref_id, kind, subject) was opened for a slot."""
    fleet, ref_id, kind, subject = key
    query = select(verdicts.c.id).where(
        verdicts.c.fleet == fleet,
        verdicts.c.ref_id == ref_id,
        verdicts.c.kind == kind,
        verdicts.c.subject == subject,
        verdicts.c.slot == slot,
    )
    return connection.execute(query).first() is not None
