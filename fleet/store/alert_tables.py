# SPDX-License-Identifier: Apache-2.0
"""Tables of alerts: what needs a person, and who is to be told.

Owns names and types of their columns, in the same database and form as ``tables``.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from fleet.store.tables import ROW_ID, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("rule", String(40), nullable=False),
    Column("fleet", String(32), nullable=False, index=True),
    Column("subject", String(200), nullable=False),
    Column("device", String(64)),  # None where it is about no single device
    Column("level", String(8), nullable=False),  # serious, notice
    Column("title", String, nullable=False),
    Column("next_step", String, nullable=False),
    Column("link", String, nullable=False),  # a page of the dashboard
    Column("began_us", BigInteger, nullable=False),
    Column("opened_us", BigInteger),  # None while it has not lasted long enough
    Column("well_us", BigInteger),  # well since then; None while it is not
    Column("closed_us", BigInteger),
    Column("close_reason", String(200)),
    Column("acked_us", BigInteger),
    Column("acked_by", String(64)),
    Column("told_us", BigInteger),  # when its opening was queued for the channels
)
Index(
    "uq_alerts_open",
    alerts.c.rule,
    alerts.c.fleet,
    alerts.c.subject,
    unique=True,
    sqlite_where=alerts.c.closed_us.is_(None),
    postgresql_where=alerts.c.closed_us.is_(None),
)

alert_notes = Table(
    "alert_notes",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("alert", ForeignKey("alerts.id"), nullable=False, index=True),
    Column("time_us", BigInteger, nullable=False),
    Column("author", String(64), nullable=False),
    Column("text", String(1000), nullable=False),
)

alert_mutes = Table(
    "alert_mutes",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("fleet", String(32), nullable=False),
    Column("rule", String(40), nullable=False),  # "*" is any
    Column("subject", String(200), nullable=False),  # a subject, a device, "*"
    Column("until_us", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
    Column("created_by", String(64), nullable=False),
    UniqueConstraint("fleet", "rule", "subject"),
)

alert_conditions = Table(
    "alert_conditions",  # what events said that still holds
    metadata,
    Column("rule", String(40), primary_key=True),
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("part", String(200), primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    Column("detail", String, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("channel", String(64), nullable=False),
    Column("alert", ForeignKey("alerts.id"), nullable=False, index=True),
    Column("event", String(8), nullable=False),  # opened, closed
    Column("body", JSON, nullable=False),  # the alert as it was then
    Column("created_us", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("outcome", String(8)),  # sent, expired
    Column("error", String(300)),  # of the last attempt
    UniqueConstraint("channel", "alert", "event"),
    Index("ix_deliveries_due", "channel", "done_us", "next_us"),
)
