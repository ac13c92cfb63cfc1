# SPDX-License-Identifier: Apache-2.0
"""Drift states of devices, verdicts and mutes.

Owns the queries of these tables, and the order in which the rule for small fleets reads
windows. What a state or a verdict means is ``fleet.drift``'s; states of whole fleets
are in ``drift_fleets``.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from fleet.errors import NotFoundError
from fleet.store.tables import drift_mutes, drift_states, verdicts, windows

Row = dict[str, Any]


def list_devices_since(
    connection: Connection, window_id: int, *, skip: Collection[tuple[str, bytes]] = ()
) -> Sequence[str]:
    """Return the devices with windows after ``window_id``, by name.

    Windows under a fleet and reference profile to ``skip`` do not count.
    """
    query = select(windows.c.device).where(windows.c.id > window_id).distinct()
    for fleet, ref_id in skip:
        query = query.where((windows.c.fleet != fleet) | (windows.c.ref_id != ref_id))
    return sorted(connection.execute(query).scalars())


def list_device_windows_since(
    connection: Connection,
    device: str,
    window_id: int,
    *,
    limit: int,
    skip: Collection[bytes] = (),
) -> Sequence[Row]:
    """Return a device's windows after ``window_id``, in the order of arrival.

    Args:
        connection: The transaction.
        device: The device.
        window_id: The last window that is not wanted.
        limit: Most windows.
        skip: Reference profiles whose windows are left out.
    """
    query = (
        select(windows)
        .where(
            windows.c.device == device,
            windows.c.id > window_id,
            windows.c.ref_id.not_in(list(skip)),
        )
        .order_by(windows.c.id)
        .limit(limit)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_states(connection: Connection) -> Sequence[Row]:
    """Return all drift states, by device."""
    query = select(drift_states).order_by(drift_states.c.device)
    return [dict(one) for one in connection.execute(query).mappings()]


def find_state(connection: Connection, device: str) -> Row | None:
    """Return the drift state of a device, None before its first window."""
    query = select(drift_states).where(drift_states.c.device == device)
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def replace_state(connection: Connection, device: str, values: dict[str, Any]) -> None:
    """Store the only drift state of a device (a swap of models drops the old one)."""
    connection.execute(delete(drift_states).where(drift_states.c.device == device))
    connection.execute(insert(drift_states).values(device=device, **values))


def list_open_verdicts(connection: Connection) -> Sequence[Row]:
    """Return the open verdicts, the latest first."""
    query = (
        select(verdicts)
        .where(verdicts.c.closed_us.is_(None))
        .order_by(verdicts.c.id.desc())
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_device_verdicts(
    connection: Connection, device: str, *, limit: int
) -> Sequence[Row]:
    """Return a device's verdicts, open and closed, the latest first."""
    query = (
        select(verdicts)
        .where(verdicts.c.device == device)
        .order_by(verdicts.c.id.desc())
        .limit(limit)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def open_verdict(connection: Connection, values: dict[str, Any]) -> None:
    """Store a new open verdict."""
    connection.execute(insert(verdicts).values(**values))


def close_verdict(
    connection: Connection, verdict_id: int, *, now_us: int, reason: str
) -> None:
    """Close a verdict."""
    connection.execute(
        update(verdicts)
        .where(verdicts.c.id == verdict_id)
        .values(closed_us=now_us, close_reason=reason)
    )


def list_fleet_verdicts(
    connection: Connection, fleet: str | None, *, limit: int
) -> Sequence[Row]:
    """Return verdicts, open and closed, the latest first."""
    query = select(verdicts).order_by(verdicts.c.id.desc()).limit(limit)
    if fleet is not None:
        query = query.where(verdicts.c.fleet == fleet)
    return [dict(one) for one in connection.execute(query).mappings()]


def find_verdict(connection: Connection, verdict_id: int) -> Row:
    """Return one verdict.

    Raises:
        NotFoundError: There is none.
    """
    query = select(verdicts).where(verdicts.c.id == verdict_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        message = f"verdict {verdict_id}: expected a verdict of this server, found none"
        raise NotFoundError(message, next_step="see `edge-fleet drift list`")
    return dict(row)


def ack_verdict(
    connection: Connection, verdict_id: int, *, now_us: int, by: str
) -> None:
    """Note who has seen a verdict."""
    connection.execute(
        update(verdicts)
        .where(verdicts.c.id == verdict_id)
        .values(acked_us=now_us, acked_by=by)
    )


def list_untold_verdicts(connection: Connection, *, limit: int) -> Sequence[Row]:
    """Return verdicts whose opening or closing was not published, the oldest first."""
    is_open = verdicts.c.closed_us.is_(None)
    query = (
        select(verdicts)
        .where(
            verdicts.c.told.is_(None) | ((verdicts.c.told == "opened") & ~is_open),
        )
        .order_by(verdicts.c.id)
        .limit(limit)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def note_verdict_told(connection: Connection, verdict_id: int, event: str) -> None:
    """Note what was published of a verdict."""
    connection.execute(
        update(verdicts).where(verdicts.c.id == verdict_id).values(told=event)
    )


def replace_mute(
    connection: Connection, fleet: str, subject: str, values: dict[str, Any]
) -> None:
    """Store the only mute of a subject."""
    connection.execute(
        delete(drift_mutes).where(
            drift_mutes.c.fleet == fleet, drift_mutes.c.subject == subject
        )
    )
    connection.execute(
        insert(drift_mutes).values(fleet=fleet, subject=subject, **values)
    )


def list_mutes(connection: Connection, now_us: int) -> Sequence[Row]:
    """Return the mutes that still hold."""
    query = select(drift_mutes).where(drift_mutes.c.until_us > now_us)
    return [dict(one) for one in connection.execute(query).mappings()]


def close_former_verdicts(
    connection: Connection, device: str, ref_id: bytes, *, now_us: int, reason: str
) -> None:
    """Close a device's open verdicts under other reference profiles."""
    connection.execute(
        update(verdicts)
        .where(
            verdicts.c.device == device,
            verdicts.c.ref_id != ref_id,
            verdicts.c.closed_us.is_(None),
        )
        .values(closed_us=now_us, close_reason=reason)
    )


def close_former_wide_verdicts(
    connection: Connection, fleet: str, ref_id: bytes, *, now_us: int, reason: str
) -> None:
    """Close a fleet's open verdicts on no device under other reference profiles."""
    connection.execute(
        update(verdicts)
        .where(
            verdicts.c.fleet == fleet,
            verdicts.c.device.is_(None),
            verdicts.c.ref_id != ref_id,
            verdicts.c.closed_us.is_(None),
        )
        .values(closed_us=now_us, close_reason=reason)
    )
