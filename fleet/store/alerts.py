# SPDX-License-Identifier: Apache-2.0
"""Alerts, their notes and mutes, and what is to be delivered of them.

Owns the queries of these tables. When an alert opens, closes or is told is decided by
``fleet.alerts``.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update
from sqlalchemy.orm import aliased

from fleet.errors import NotFoundError
from fleet.store.alert_tables import alert_mutes, alert_notes, alerts, deliveries

Row = dict[str, Any]


def list_live_alerts(connection: Connection) -> Sequence[Row]:
    """Return alerts that are not closed, those that wait to open included, by id."""
    query = select(alerts).where(alerts.c.closed_us.is_(None)).order_by(alerts.c.id)
    return [dict(one) for one in connection.execute(query).mappings()]


def list_alerts(
    connection: Connection, fleet: str | None, *, limit: int, closed: bool
) -> Sequence[Row]:
    """Return open alerts, with ``closed`` also closed ones, the latest first."""
    query = (
        select(alerts)
        .where(alerts.c.opened_us.is_not(None))
        .order_by(alerts.c.id.desc())
        .limit(limit)
    )
    if not closed:
        query = query.where(alerts.c.closed_us.is_(None))
    if fleet is not None:
        query = query.where(alerts.c.fleet == fleet)
    return [dict(one) for one in connection.execute(query).mappings()]


def find_alert(connection: Connection, alert_id: int) -> Row:
    """Return one alert.

    Raises:
        NotFoundError: There is none.
    """
    query = select(alerts).where(
        alerts.c.id == alert_id, alerts.c.opened_us.is_not(None)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        message = f"alert {alert_id}: expected an alert of this server, found none"
        raise NotFoundError(message, next_step="see `edge-fleet alert list`")
    return dict(row)


def insert_alert(connection: Connection, values: Row) -> None:
    """Store a new alert."""
    connection.execute(insert(alerts).values(**values))


def update_alert(connection: Connection, alert_id: int, values: Row) -> bool:
    """Change an alert that is not closed; return whether it was so."""
    done = connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id, alerts.c.closed_us.is_(None))
        .values(**values)
    )
    return done.rowcount == 1


def delete_waiting_alert(connection: Connection, alert_id: int) -> None:
    """Forget an alert that never opened."""
    connection.execute(
        delete(alerts).where(alerts.c.id == alert_id, alerts.c.opened_us.is_(None))
    )


def ack_alert(connection: Connection, alert_id: int, *, now_us: int, by: str) -> None:
    """Note who has seen an alert."""
    connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id)
        .values(acked_us=now_us, acked_by=by)
    )


def insert_note(
    connection: Connection, alert_id: int, *, now_us: int, author: str, text: str
) -> None:
    """Keep what somebody wrote about an alert."""
    values = {"alert": alert_id, "time_us": now_us, "author": author, "text": text}
    connection.execute(insert(alert_notes).values(**values))


def list_notes(connection: Connection, alert_id: int) -> Sequence[Row]:
    """Return an alert's notes, the first one first."""
    query = select(
        alert_notes.c.time_us, alert_notes.c.author, alert_notes.c.text
    ).where(alert_notes.c.alert == alert_id)
    rows = connection.execute(query.order_by(alert_notes.c.id)).mappings()
    return [dict(one) for one in rows]


def list_alert_mutes(connection: Connection, now_us: int) -> Sequence[Row]:
    """Return the mutes that still hold."""
    query = select(alert_mutes).where(alert_mutes.c.until_us > now_us)
    rows = connection.execute(query.order_by(alert_mutes.c.id)).mappings()
    return [dict(one) for one in rows]


def replace_alert_mute(connection: Connection, values: Row) -> None:
    """Store the only mute of a fleet's rule and subject."""
    delete_alert_mute(connection, (values["fleet"], values["rule"], values["subject"]))
    connection.execute(insert(alert_mutes).values(**values))


def delete_alert_mute(connection: Connection, key: tuple[str, str, str]) -> bool:
    """Remove a mute of (fleet, rule, subject); return whether there was one."""
    fleet, rule, subject = key
    done = connection.execute(
        delete(alert_mutes).where(
            alert_mutes.c.fleet == fleet,
            alert_mutes.c.rule == rule,
            alert_mutes.c.subject == subject,
        )
    )
    return done.rowcount > 0


def insert_delivery(connection: Connection, values: Row) -> None:
    """Queue an event of an alert for a channel, once whatever happens."""
    same = select(deliveries.c.id).where(
        *(deliveries.c[name] == values[name] for name in ("channel", "alert", "event"))
    )
    if connection.execute(same).first() is None:
        connection.execute(insert(deliveries).values(**values))


def list_due_deliveries(
    connection: Connection, channel: str, now_us: int, *, limit: int
) -> Sequence[Row]:
    """Return what a channel must try now, in the order of events.

    An event waits while an earlier one of the same alert does.
    """
    earlier = aliased(deliveries)
    blocked = exists().where(
        earlier.c.channel == deliveries.c.channel,
        earlier.c.alert == deliveries.c.alert,
        earlier.c.id < deliveries.c.id,
        earlier.c.done_us.is_(None),
    )
    query = (
        select(deliveries)
        .where(
            deliveries.c.channel == channel,
            deliveries.c.done_us.is_(None),
            deliveries.c.next_us <= now_us,
            ~blocked,
        )
        .order_by(deliveries.c.id)
        .limit(limit)
    )
    return [dict(one) for one in connection.execute(query).mappings()]


def list_alert_deliveries(connection: Connection, alert_id: int) -> Sequence[Row]:
    """Return what was and is to be delivered of an alert."""
    query = select(deliveries).where(deliveries.c.alert == alert_id)
    rows = connection.execute(query.order_by(deliveries.c.id)).mappings()
    return [dict(one) for one in rows]


def update_delivery(connection: Connection, delivery_id: int, values: Row) -> None:
    """Note how an attempt went."""
    connection.execute(
        update(deliveries).where(deliveries.c.id == delivery_id).values(**values)
    )


def delete_old_alerts(connection: Connection, before_us: int) -> int:
    """Forget alerts that closed before a time, and all about them."""
    old = select(alerts.c.id).where(alerts.c.closed_us < before_us)
    connection.execute(delete(deliveries).where(deliveries.c.alert.in_(old)))
    connection.execute(delete(alert_notes).where(alert_notes.c.alert.in_(old)))
    done = connection.execute(delete(alerts).where(alerts.c.closed_us < before_us))
    return done.rowcount
