# SPDX-License-Identifier: Apache-2.0
"""When a device was last heard, and what it says that it serves.

Owns writing the table ``presence``. Only a fresh message (a new seq, or a state with a
later time than the last) moves ``last_seen_us``: state and will are retained by an
untrusted broker and can be replayed.
"""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from edge_contract.messages import Birth, State
from fleet.ingest.plain import to_plain
from fleet.store.tables import presence

_CLOCK_SLACK_US = 300_000_000


def record_fresh(connection: Connection, device: str, now_us: int) -> None:
    """Note a fresh message of ``device``."""
    _upsert(connection, device, {"last_seen_us": now_us, "online_hint": True})


def record_birth(
    connection: Connection, device: str, birth: Birth, now_us: int
) -> None:
    """Note what a device is and serves."""
    values = {
        "last_seen_us": now_us,
        "online_hint": True,
        "serving": to_plain(birth.serving),
        "birth": to_plain(birth),
        "boot_id": birth.boot_id,
    }
    _upsert(connection, device, values)


def record_state(
    connection: Connection, device: str, state: State, now_us: int
) -> bool:
    """Note a heartbeat, or a will that says offline; return whether it is fresh."""
    column = presence.c.state_time_us
    last = connection.execute(select(column).where(presence.c.device == device))
    last_us: int = last.scalar() or 0
    if not state.online:
        row = presence.c.device == device
        connection.execute(update(presence).where(row).values(online_hint=False))
        return False
    if not _is_fresh(state.time_us, last_us, now_us):
        return False
    values = {
        "last_seen_us": now_us,
        "online_hint": True,
        "state_time_us": state.time_us,
        "serving": to_plain(state.serving),
    }
    _upsert(connection, device, values)
    return True


def _is_fresh(time_us: int, last_us: int, now_us: int) -> bool:
    """Whether a heartbeat can be no replay.

    After a device's clock was in the future, its true time counts again; a replay from
    within the slack is all that this lets through.
    """
    was_mad = last_us > now_us + _CLOCK_SLACK_US
    return time_us > last_us or (was_mad and abs(time_us - now_us) <= _CLOCK_SLACK_US)


def _upsert(connection: Connection, device: str, values: dict[str, Any]) -> None:
    row = presence.c.device == device
    done = connection.execute(update(presence).where(row).values(**values))
    if done.rowcount == 0:
        new = {
            "device": device,
            "last_seen_us": 0,
            "online_hint": False,
            "state_time_us": 0,
            "serving": {},
        }
        connection.execute(insert(presence).values(**(new | values)))
