# SPDX-License-Identifier: Apache-2.0
"""What the tables say that may need a person.

Owns the queries behind alerts: health, refusals, events, updates, rollouts, verdicts.
It writes only what events said (``alert_conditions``). Limits are ``fleet.alerts``'s.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from fleet.store.alert_tables import alert_conditions
from fleet.store.tables import (
    devices,
    events,
    health,
    presence,
    refusals,
    rollouts,
    update_reports,
    verdicts,
)

Row = dict[str, Any]
_EVENTS_A_TIME = 5000


def list_health(connection: Connection) -> Sequence[Row]:
    """Return each device that may speak, with what it last told of itself."""
    query = (
        select(
            devices.c.id,
            devices.c.fleet,
            presence.c.last_seen_us,
            presence.c.birth,
            *(one for one in health.c if one.name != "device"),
        )
        .select_from(
            devices.outerjoin(presence, presence.c.device == devices.c.id).outerjoin(
                health, health.c.device == devices.c.id
            )
        )
        .where(devices.c.revoked_us.is_(None))
        .order_by(devices.c.id)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_refusals_since(
    connection: Connection, reasons: Collection[str], hour: int
) -> Sequence[Row]:
    """Return the refusals for ``reasons`` whose last one was in ``hour`` or later."""
    query = select(refusals).where(
        refusals.c.reason.in_(list(reasons)), refusals.c.hour >= hour
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_latest_updates(connection: Connection) -> Sequence[Row]:
    """Return each device's latest update report."""
    latest = (
        select(func.max(update_reports.c.id).label("id"))
        .group_by(update_reports.c.device)
        .subquery()
    )
    query = select(
        update_reports.c.device,
        update_reports.c.state,
        update_reports.c.received_us,
        update_reports.c.digest,
    ).join(latest, latest.c.id == update_reports.c.id)
    return [dict(one) for one in connection.execute(query).mappings()]


def list_stopped_rollouts(
    connection: Connection, states: Collection[str]
) -> Sequence[Row]:
    """Return the rollouts that are in one of ``states``."""
    query = select(
        rollouts.c.id,
        rollouts.c.fleet,
        rollouts.c.state,
        rollouts.c.reason,
        rollouts.c.updated_us,
    ).where(rollouts.c.state.in_(list(states)))
    return [dict(one) for one in connection.execute(query).mappings()]


def list_verdict_facts(connection: Connection) -> Sequence[Row]:
    """Return the open verdicts."""
    query = select(verdicts).where(verdicts.c.closed_us.is_(None))
    return [dict(one) for one in connection.execute(query).mappings()]


def last_event_id(connection: Connection) -> int:
    """Return the id of the last event, 0 when there is none."""
    return connection.execute(select(func.max(events.c.id))).scalar() or 0


def list_events_since(
    connection: Connection, event_id: int, names: Collection[str]
) -> Sequence[Row]:
    """Return events after ``event_id`` with one of ``names``, in order of arrival."""
    query = (
        select(events)
        .where(events.c.id > event_id, events.c.name.in_(list(names)))
        .order_by(events.c.id)
        .limit(_EVENTS_A_TIME)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_conditions(connection: Connection) -> Sequence[Row]:
    """Return what events said that still holds, of devices that may speak."""
    query = (
        select(alert_conditions, devices.c.fleet)
        .join_from(alert_conditions, devices, alert_conditions.c.device == devices.c.id)
        .where(devices.c.revoked_us.is_(None))
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def put_condition(
    connection: Connection, key: tuple[str, str, str], *, since_us: int, detail: str
) -> None:
    """Note that (rule, device, part) holds."""
    values = {"since_us": since_us, "detail": detail}
    where = _condition(key)
    done = connection.execute(update(alert_conditions).where(*where).values(**values))
    if done.rowcount == 0:
        rule, device, part = key
        connection.execute(
            insert(alert_conditions).values(
                rule=rule, device=device, part=part, **values
            )
        )


def drop_condition(connection: Connection, key: tuple[str, str, str]) -> None:
    """Note that (rule, device, part) holds no longer."""
    connection.execute(delete(alert_conditions).where(*_condition(key)))


def _condition(key: tuple[str, str, str]) -> tuple[Any, ...]:
    rule, device, part = key
    return (
        alert_conditions.c.rule == rule,
        alert_conditions.c.device == device,
        alert_conditions.c.part == part,
    )
