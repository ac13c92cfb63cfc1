# SPDX-License-Identifier: Apache-2.0
"""What devices are and did, as rollouts need it, and the penalty box.

Owns this package's reading of devices, presence and update reports, and the table
``penalties``. What a device's reports mean is in ``outcomes``.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from fleet.errors import NotFoundError
from fleet.rollout.model import Device, Observation, Rollout
from fleet.rollout.outcomes import Report, Serving, find_outcome
from fleet.store.tables import devices, penalties, presence, update_reports

MAX_FAILURES = 3
_REASON_CHARACTERS = 200
_FIGURE_MOST = 2**53


@dataclass(frozen=True, slots=True)
class Penalty:
    """A device that is left out of a release.

    Attributes:
        reason: Of its last failure.
        failures: How many attempts ended badly.
        since_us: When it was put there.
    """

    device: str
    slot: str
    digest: str
    reason: str
    failures: int
    since_us: int


def list_devices(connection: Connection, fleet: str) -> tuple[Device, ...]:
    """Return the fleet's devices that are not revoked."""
    query = (
        select(devices.c.id, devices.c.tags, presence.c.last_seen_us)
        .outerjoin(presence, presence.c.device == devices.c.id)
        .where(devices.c.fleet == fleet, devices.c.revoked_us.is_(None))
        .order_by(devices.c.id)
    )
    return tuple(
        Device(row["id"], row["tags"], row["last_seen_us"])
        for row in connection.execute(query).mappings()
    )


def observe_devices(connection: Connection, rollout: Rollout) -> dict[str, Observation]:
    """Return what became of every device that reported on the rollout's release."""
    query = (
        select(update_reports)
        .join(devices, devices.c.id == update_reports.c.device)
        .where(
            devices.c.fleet == rollout.fleet,
            update_reports.c.digest == rollout.digest,
            update_reports.c.received_us >= rollout.started_us,
        )
        .order_by(update_reports.c.id)
    )
    reports: dict[str, list[Report]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        if _is_about(rollout, row["body"]):
            reports[row["device"]].append(_report(row))
    serving = list_serving(connection, rollout.fleet, rollout.slot)
    forgiven = _list_forgiven(connection, rollout)
    return {
        device: find_outcome(
            rollout.digest,
            reports.get(device, ()),
            serving.get(device),
            failures_since_us=forgiven.get(device, 0),
        )
        for device in reports.keys() | serving.keys()
    }


def list_serving(connection: Connection, fleet: str, slot: str) -> dict[str, Serving]:
    """Return what each device says that it serves."""
    query = (
        select(
            presence.c.device,
            presence.c.serving,
            presence.c.state_time_us,
            presence.c.boot_id,
        )
        .join(devices, devices.c.id == presence.c.device)
        .where(devices.c.fleet == fleet)
    )
    return {
        row["device"]: Serving(
            str(row["serving"].get(slot, "")),
            row["state_time_us"],
            "" if row["boot_id"] is None else row["boot_id"].hex(),
        )
        for row in connection.execute(query).mappings()
    }


def box_devices(
    connection: Connection,
    rollout: Rollout,
    observations: Mapping[str, Observation],
    now_us: int,
) -> tuple[Penalty, ...]:
    """Put devices that failed too often into the penalty box; return the new ones."""
    known = {one.device for one in list_penalties(connection, rollout.fleet)
             if (one.slot, one.digest) == (rollout.slot, rollout.digest)}  # fmt: skip
    found = []
    for device, one in sorted(observations.items()):
        if one.failures < MAX_FAILURES or device in known:
            continue
        penalty = Penalty(
            device,
            rollout.slot,
            rollout.digest,
            one.reason[:_REASON_CHARACTERS],
            one.failures,
            now_us,
        )
        _save_penalty(connection, penalty)
        found.append(penalty)
    return tuple(found)


def list_penalties(connection: Connection, fleet: str) -> tuple[Penalty, ...]:
    """Return who is in the penalty box of a fleet."""
    query = (
        select(penalties)
        .join(devices, devices.c.id == penalties.c.device)
        .where(devices.c.fleet == fleet, penalties.c.released_us.is_(None))
        .order_by(penalties.c.device, penalties.c.since_us)
    )
    return tuple(
        Penalty(**{name: row[name] for name in Penalty.__slots__})
        for row in connection.execute(query).mappings()
    )


def release_device(connection: Connection, device: str, now_us: int) -> int:
    """Let a device out of the penalty box; return how many releases it was kept from.

    Raises:
        NotFoundError: It is not in it.
    """
    done = connection.execute(
        update(penalties)
        .where(penalties.c.device == device, penalties.c.released_us.is_(None))
        .values(released_us=now_us)
    )
    if not done.rowcount:
        raise NotFoundError(
            f"device {device[:64]}: expected it in the penalty box, found it not there",
            next_step="`edge-fleet rollout boxed` shows who is",
        )
    return done.rowcount


def _save_penalty(connection: Connection, one: Penalty) -> None:
    values = {
        "reason": one.reason,
        "failures": one.failures,
        "since_us": one.since_us,
        "released_us": None,
    }
    key = {"device": one.device, "slot": one.slot, "digest": one.digest}
    where = [penalties.c[name] == value for name, value in key.items()]
    done = connection.execute(update(penalties).where(*where).values(**values))
    if done.rowcount == 0:
        connection.execute(insert(penalties).values(**key, **values))


def _list_forgiven(connection: Connection, rollout: Rollout) -> dict[str, int]:
    query = select(penalties.c.device, penalties.c.released_us).where(
        penalties.c.slot == rollout.slot,
        penalties.c.digest == rollout.digest,
        penalties.c.released_us.is_not(None),
    )
    return {row.device: row.released_us for row in connection.execute(query)}


def _is_about(rollout: Rollout, body: Mapping[str, Any]) -> bool:
    """Whether a report answers this rollout's wish, and not an older one."""
    version = body.get("desired_version")
    is_older = isinstance(version, int) and version <= rollout.after_version
    return body.get("slot", rollout.slot) == rollout.slot and not is_older


def _report(row: RowMapping) -> Report:
    body = row["body"]
    fields = body.get("fields")
    figures = fields if isinstance(fields, dict) else {}
    return Report(
        state=row["state"],
        received_us=row["received_us"],
        time_us=int(body.get("time_us", 0)),
        serving=str(body.get("serving", "")),
        reason=str(body.get("reason", "")),
        stream=row["boot_id"].hex(),
        seq=row["seq"],
        invariant=str(figures.get("invariant", ""))[:_REASON_CHARACTERS],
        compared=_figure(figures.get("compared")),
        disagreed=_figure(figures.get("disagreed")),
    )


def _figure(value: Any) -> int:
    """Return a count that a device reported; nonsense is none."""
    return value if type(value) is int and 0 <= value < _FIGURE_MOST else 0
