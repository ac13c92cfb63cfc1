# SPDX-License-Identifier: Apache-2.0
"""Tables of the server's database, in SQLAlchemy Core.

Owns names and types of all columns; ``migrations`` creates them. Portable between
SQLite and PostgreSQL. Times are integer microseconds since 1970 UTC (``_us``).
Statistics are blobs that only ``store.statistics`` interprets.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from fleet.store.append_only import make_append_only

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

# SQLite gives only INTEGER PRIMARY KEY columns an automatic, growing value.
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")


def _statistics_columns() -> tuple[Column[Any], ...]:
    """Give the blobs of a ``WindowStatistics``; ``store.statistics`` reads them."""
    return (
        Column("counts", LargeBinary, nullable=False),  # LEB128; zigzag if noised
        Column("mean", LargeBinary, nullable=False),  # float64, little endian
        Column("m2", LargeBinary, nullable=False),  # float64, little endian
        Column("epsilon_millionths", BigInteger, nullable=False),  # 0: exact
    )


counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),  # e.g. "desired_version/default"
    Column("value", BigInteger, nullable=False),
)

# -- devices ------------------------------------------------------------------------

devices = Table(
    "devices",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("fleet", String(32), nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

presence = Table(
    "presence",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("last_seen_us", BigInteger, nullable=False),  # last fresh message
    Column("online_hint", Boolean, nullable=False),  # the state topic's claim
    Column("state_time_us", BigInteger, nullable=False),  # device clock, newest wins
    Column("serving", JSON, nullable=False),  # slot -> release digest, hex
    Column("birth", JSON),  # the last birth, as plain values
    Column("boot_id", LargeBinary(8)),
)

health = Table(
    "health",  # the latest of what a device told of itself; None where it did not
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("digest8", LargeBinary(8)),  # of the release that p95_us speaks of
    Column("p95_us", BigInteger),
    Column("rss_kib", BigInteger),
    Column("temperature", Integer),  # whole degrees Celsius
    Column("disk_free_mib", BigInteger),
    Column("pending", BigInteger),  # messages in its outbox
    Column("clock_ahead_us", BigInteger),  # of the server's, at its last heartbeat
    Column("failed_us", BigInteger),  # last window with failed inferences
    Column("births", JSON, nullable=False),  # times of the latest 32
)

marks = Table(
    "marks",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("boot_id", LargeBinary(8), primary_key=True),
    Column("mark", BigInteger, nullable=False),
    Column("bitmap", LargeBinary, nullable=False),
)

totals = Table(
    "totals",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("windows", BigInteger, nullable=False),  # closed windows, merged ones each
    Column("inferences", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),  # declared by the device after a kill
    Column("duplicates", BigInteger, nullable=False),  # received again, not counted
    Column("bytes", BigInteger, nullable=False),  # of accepted messages, enveloped
)

refusals = Table(
    "refusals",
    metadata,
    Column("reason", String(40), primary_key=True),
    Column("device", String(64), primary_key=True),  # "" when not a known device
    Column("count", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
    Column("hour", BigInteger, nullable=False),  # hours since 1970 of the last one
    Column("hour_count", BigInteger, nullable=False),  # in that hour
)

outbound = Table(
    "outbound",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("replied_us", BigInteger),
    Column("reply", JSON),  # {"ok": bool, "code": str, "detail": {...}}
)

announces = Table(
    "announces",
    metadata,
    Column("fleet", String(32), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("spread_seconds", Integer, nullable=False),
)

wants = Table(
    "wants",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("config", JSON, nullable=False),
)

# -- what devices report ------------------------------------------------------------

windows = Table(
    "windows",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),  # order of arrival
    Column("device", ForeignKey("devices.id"), nullable=False),
    Column("boot_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("fleet", String(32), nullable=False),
    Column("ref_id", LargeBinary(8), nullable=False),
    Column("digest8", LargeBinary(8), nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("monotonic_us", BigInteger, nullable=False),
    Column("clock_synced", Boolean, nullable=False),
    Column("retimed", Boolean, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("covers", JSON, nullable=False),  # seqs merged into this one
    *_statistics_columns(),
    Column("feedback", LargeBinary),  # labels that came, None where none did
    Column("shadow8", LargeBinary(8)),  # the release that saw the same inputs
    Column("shadow_compared", BigInteger),
    Column("shadow_disagreed", BigInteger),
    Column("received_us", BigInteger, nullable=False),
    UniqueConstraint("device", "boot_id", "seq"),
    Index("ix_windows_stream", "device", "ref_id", "id"),
)
Index(
    "ix_windows_labelled",
    windows.c.fleet,
    windows.c.ref_id,
    windows.c.id,
    sqlite_where=windows.c.feedback.is_not(None),
    postgresql_where=windows.c.feedback.is_not(None),
)

rollups = Table(
    "rollups",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("ref_id", LargeBinary(8), primary_key=True),
    Column("level", String(8), primary_key=True),  # "hour", "all"
    Column("bucket_us", BigInteger, primary_key=True),  # 0 for "all"
    Column("windows", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    *_statistics_columns(),
    Column("feedback", LargeBinary),
)

shadows = Table(
    "shadows",  # sums over all windows of a device, a pair of releases each
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("digest8", LargeBinary(8), primary_key=True),  # what served
    Column("shadow8", LargeBinary(8), primary_key=True),
    Column("ref_id", LargeBinary(8), nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("disagreed", BigInteger, nullable=False),
)

release_hours = Table(
    "release_hours",  # how a release fared on a device in an hour of event time
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("digest8", LargeBinary(8), primary_key=True),
    Column("hour_us", BigInteger, primary_key=True),
    Column("inferences", BigInteger, nullable=False),
    Column("confident", BigInteger, nullable=False),  # inferences with a confidence
    Column("confidence_ppm", BigInteger, nullable=False),  # its sum
    Column("latency", LargeBinary, nullable=False),  # 98 buckets, LEB128 varints
)

events = Table(
    "events",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("boot_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("name", String(64), nullable=False, index=True),
    Column("body", JSON, nullable=False),
)

update_reports = Table(
    "update_reports",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("boot_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False, index=True),  # hex, "" if none
    Column("state", String(32), nullable=False),
    Column("body", JSON, nullable=False),  # the whole report as plain values
)

kept_apart = Table(
    "kept_apart",  # authentic messages that could not be used; the reason says why
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("device", ForeignKey("devices.id"), nullable=False, index=True),
    Column("boot_id", LargeBinary(8), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", String(40), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("received_us", BigInteger, nullable=False),
)

# -- registry and rollouts ----------------------------------------------------------

reference_profiles = Table(
    "reference_profiles",
    metadata,
    Column("ref_id", LargeBinary(8), primary_key=True),
    Column("profile", LargeBinary, nullable=False),  # ReferenceProfile.encode()
    Column("digest", String(64), nullable=False),  # the release that brought it
    Column("added_us", BigInteger, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False),
    Column("release_counter", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("target_path", String(200), nullable=False, unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("ref_id", LargeBinary(8), nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("published_us", BigInteger, nullable=False),
    Column("withdrawn_us", BigInteger),
    UniqueConstraint("name", "release_counter"),
)

desired = Table(
    "desired",
    metadata,
    Column("fleet", String(32), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("document", JSON, nullable=False),
    Column("published_us", BigInteger, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("fleet", String(32), nullable=False, index=True),
    Column("slot", String(32), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("target_path", String(200), nullable=False),
    Column("release_counter", BigInteger, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("state", String(24), nullable=False),
    Column("reason", String, nullable=False),  # why it is in this state
    Column("accepted", String),  # text of --accept-insufficient-evidence
    Column("settings", JSON, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

penalties = Table(
    "penalties",  # devices that failed a release too often, and are left out of it
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("slot", String(32), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("reason", String(200), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("released_us", BigInteger),  # failures before this are forgiven
)

rollout_phases = Table(
    "rollout_phases",
    metadata,
    Column("rollout", ForeignKey("rollouts.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),  # canary, query, percent, all
    Column("settings", JSON, nullable=False),  # amount, query, devices, own figures
    Column("state", String(24), nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("gate", JSON),  # the last decision with its figures
)

# -- drift --------------------------------------------------------------------------

drift_states = Table(
    "drift_states",
    metadata,
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("ref_id", LargeBinary(8), primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("last_window_id", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("device", ForeignKey("devices.id"), index=True),  # None: world or cohort
    Column("subject", String(200), nullable=False),  # device, "world", "tag=value"
    Column("fleet", String(32), nullable=False, index=True),
    Column("ref_id", LargeBinary(8), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("provisional", Boolean, nullable=False),
    Column("slot", BigInteger),  # of the decision; None by the rule for small fleets
    Column("opened_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("close_reason", String(64)),
    Column("acked_us", BigInteger),
    Column("acked_by", String(64)),
    Column("told", String(8)),  # the last event on the topic: opened, closed
    Column("evidence", JSON, nullable=False),
)

drift_fleets = Table(
    "drift_fleets",
    metadata,
    Column("fleet", String(32), primary_key=True),
    Column("ref_id", LargeBinary(8), primary_key=True),
    Column("part", Integer, primary_key=True),  # of a large state, in order
    Column("last_window_id", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

drift_views = Table(
    "drift_views",  # what fleetwide states say, for documents
    metadata,
    Column("fleet", String(32), primary_key=True),
    Column("ref_id", LargeBinary(8), primary_key=True),
    Column("document", JSON, nullable=False),
)

drift_performance = Table(
    "drift_performance",  # what is known of a model's errors, for documents
    metadata,
    Column("fleet", String(32), primary_key=True),
    Column("ref_id", LargeBinary(8), primary_key=True),
    Column("document", JSON, nullable=False),
)

drift_mutes = Table(
    "drift_mutes",
    metadata,
    Column("fleet", String(32), primary_key=True),
    Column("subject", String(200), primary_key=True),
    Column("until_us", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
    Column("created_by", String(64), nullable=False),
)

# -- signatures --------------------------------------------------------------------

# Those that are about to end and that the server cannot renew; written by the registry.
ending_signatures = Table(
    "ending_signatures",
    metadata,
    Column("role", String(64), primary_key=True),
    Column("title", String(200), nullable=False),
    Column("next_step", String(200), nullable=False),
)

# -- samples, pipelines, audit ------------------------------------------------------

sample_requests = Table(
    "sample_requests",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("fleet", String(32), nullable=False, index=True),
    Column("arguments", JSON, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)

sample_targets = Table(
    "sample_targets",
    metadata,
    Column("request", ForeignKey("sample_requests.id"), primary_key=True),
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("command", ForeignKey("outbound.id")),  # None until it was stored
)

samples = Table(
    "samples",
    metadata,
    Column("request", ForeignKey("sample_requests.id"), primary_key=True),
    Column("device", ForeignKey("devices.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),  # of the opened payload
    Column("rows", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),  # that the device says it sends
    Column("received_us", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("pipeline", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # running, done, failed
    Column("context", JSON, nullable=False),
    Column("exit_code", Integer),
    Column("reason", String),
    Column("folder", String, nullable=False),  # relative to the state folder
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
)

audit = Table(
    "audit",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("time_us", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
)
make_append_only(audit)
