# SPDX-License-Identifier: Apache-2.0
"""How a device fares, by what it last told: latency, memory, clock, outbox, births.

Owns writing the table ``health``. It judges nothing; limits are the alerts'.
"""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from edge_contract.errors import WindowError
from edge_contract.messages import State
from edge_contract.operations import latency_quantile_us
from edge_contract.window_report import WindowReport
from fleet.store.tables import health

_BIRTHS_KEPT = 32
_P95 = 0.95


def record_birth_health(connection: Connection, device: str, now_us: int) -> None:
    """Note that a device was born: it started, or connected again."""
    query = select(health.c.births).where(health.c.device == device)
    births = list(connection.execute(query).scalar() or ())
    _upsert(connection, device, {"births": [*births, now_us][-_BIRTHS_KEPT:]})


def record_heartbeat(
    connection: Connection, device: str, state: State, now_us: int
) -> None:
    """Note a fresh heartbeat's clock and outbox."""
    values = {"pending": state.pending, "clock_ahead_us": state.time_us - now_us}
    _upsert(connection, device, values)


def record_window(
    connection: Connection, device: str, report: WindowReport, now_us: int
) -> None:
    """Note how a device fared in a window; a malformed block tells nothing."""
    values: dict[str, Any] = {"failed_us": now_us} if report.failed else {}
    try:
        told = report.operations()
    except WindowError:
        told = None
    if told is not None:
        values["digest8"] = report.release
        values["rss_kib"] = told.rss_kib
        values["temperature"] = told.temperature
        values["disk_free_mib"] = told.disk_free_mib
        counted = int(told.latency.sum())
        quantile = latency_quantile_us(told.latency, _P95) if counted else None
        values["p95_us"] = None if quantile is None else round(quantile)
    if values:
        _upsert(connection, device, values)


def _upsert(connection: Connection, device: str, values: dict[str, Any]) -> None:
    row = health.c.device == device
    if connection.execute(update(health).where(row).values(**values)).rowcount == 0:
        connection.execute(
            insert(health).values(**({"device": device, "births": []} | values))
        )
