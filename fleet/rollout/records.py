# SPDX-License-Identifier: Apache-2.0
"""Rollouts, phases and wishes in the database.

Owns the queries of this package on ``rollouts``, ``rollout_phases`` and ``desired``;
what devices did is read in ``sightings``. It decides nothing.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from fleet.errors import NotFoundError
from fleet.rollout.model import (
    Pending,
    Phase,
    PhaseKind,
    PhaseState,
    Policy,
    Rollout,
    RolloutState,
)
from fleet.store.counters import raise_counter
from fleet.store.tables import desired, models, rollout_phases, rollouts

_MICROSECONDS = 1_000_000
_PHASE_SETTINGS = (
    "amount",
    "query",
    "sample",
    "soak_seconds",
    "deadline_seconds",
    "devices",
    "promoted",
)


@dataclass(frozen=True, slots=True)
class PublishableRelease:
    """A release of the catalogue that a rollout may name."""

    model: str
    release_counter: int
    digest: str
    target_path: str


@dataclass(frozen=True, slots=True)
class DesiredRecord:
    """The newest ``desired`` document of a fleet.

    Attributes:
        version: Its ``desired_version``.
        slots: Its rules by slot.
        is_published: False until the TUF repository has it.
    """

    version: int
    slots: dict[str, list[dict[str, Any]]]
    is_published: bool


def take_rollout_id(connection: Connection) -> str:
    """Return a name that no rollout had before."""
    return f"r{raise_counter(connection, 'rollout')}"


def find_release(
    connection: Connection, model: str, release: int | None
) -> PublishableRelease:
    """Return a release that is not withdrawn; the newest when ``release`` is None.

    Raises:
        NotFoundError: There is none.
    """
    query = (
        select(models)
        .where(models.c.name == model, models.c.withdrawn_us.is_(None))
        .order_by(models.c.release_counter.desc())
    )
    if release is not None:
        query = query.where(models.c.release_counter == release)
    row = connection.execute(query).mappings().first()
    if row is None:
        wanted = "any release" if release is None else f"release {release}"
        raise NotFoundError(
            f"model {model}: expected {wanted} that is not withdrawn, found none",
            next_step="`edge-fleet model list` shows what can be rolled out",
        )
    return PublishableRelease(
        row["name"], row["release_counter"], row["digest"], row["target_path"]
    )


def save_rollout(connection: Connection, rollout: Rollout, time_us: int) -> None:
    """Store a rollout with its phases, new or changed."""
    values = {
        "fleet": rollout.fleet,
        "slot": rollout.slot,
        "digest": rollout.digest,
        "target_path": rollout.target_path,
        "release_counter": rollout.release_counter,
        "salt": rollout.salt,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "accepted": rollout.accepted,
        "settings": {
            "model": rollout.model,
            "where": rollout.where,
            "policy": asdict(rollout.policy),
            "started_us": rollout.started_us,
            "after_version": rollout.after_version,
            "forgiven_us": rollout.forgiven_us,
            "pending": None if rollout.pending is None else asdict(rollout.pending),
        },
        "created_us": rollout.created_us,
        "created_by": rollout.created_by,
        "updated_us": time_us,
    }
    done = connection.execute(
        update(rollouts).where(rollouts.c.id == rollout.id).values(values)
    )
    if done.rowcount == 0:
        connection.execute(insert(rollouts).values(id=rollout.id, **values))
    connection.execute(
        delete(rollout_phases).where(rollout_phases.c.rollout == rollout.id)
    )
    connection.execute(
        insert(rollout_phases),
        [
            {
                "rollout": rollout.id,
                "number": number,
                "kind": phase.kind.value,
                "settings": {name: getattr(phase, name) for name in _PHASE_SETTINGS},
                "state": phase.state.value,
                "started_us": phase.started_us,
                "ended_us": phase.ended_us,
                "gate": None if phase.gate is None else dict(phase.gate),
            }
            for number, phase in enumerate(rollout.phases)
        ],
    )


def list_rollouts(
    connection: Connection, fleet: str | None = None
) -> tuple[Rollout, ...]:
    """Return the rollouts, of one fleet or of all, newest first."""
    query = select(rollouts).order_by(
        rollouts.c.created_us.desc(), rollouts.c.id.desc()
    )
    if fleet is not None:
        query = query.where(rollouts.c.fleet == fleet)
    rows = connection.execute(query).mappings().all()
    phases = _phases(connection, [row["id"] for row in rows])
    return tuple(_rollout(row, phases[row["id"]]) for row in rows)


def find_rollout(connection: Connection, rollout: str) -> Rollout:
    """Return one rollout.

    Raises:
        NotFoundError: There is none of this name.
    """
    query = select(rollouts).where(rollouts.c.id == rollout)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(
            f"rollout {rollout[:40]}: there is none of this name",
            next_step="`edge-fleet rollout list` shows all",
        )
    return _rollout(row, _phases(connection, [rollout])[rollout])


def find_desired(connection: Connection, fleet: str) -> DesiredRecord | None:
    """Return the newest ``desired`` document of ``fleet``, None before the first."""
    query = select(desired).where(desired.c.fleet == fleet)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return DesiredRecord(
        row["version"], row["document"]["slots"], row["published_us"] > 0
    )


def take_desired(
    connection: Connection,
    fleet: str,
    slots: dict[str, list[dict[str, Any]]],
    time_us: int,
) -> DesiredRecord:
    """Note a new document under a version above all before it.

    The version is at least the Unix time, so that a server restored from an old backup
    goes on above what its devices have seen.
    """
    version = raise_counter(
        connection, f"desired_version/{fleet}", above=time_us // _MICROSECONDS - 1
    )
    values = {"version": version, "document": {"slots": slots}, "published_us": 0}
    done = connection.execute(
        update(desired).where(desired.c.fleet == fleet).values(values)
    )
    if done.rowcount == 0:
        connection.execute(insert(desired).values(fleet=fleet, **values))
    return DesiredRecord(version, slots, is_published=False)


def is_withdrawn(connection: Connection, digest: str) -> bool:
    """Whether the builder has withdrawn a release."""
    query = select(models.c.withdrawn_us).where(models.c.digest == digest)
    return connection.execute(query).scalar() is not None


def mark_published(
    connection: Connection, fleet: str, version: int, time_us: int
) -> None:
    """Note that the TUF repository has the document."""
    connection.execute(
        update(desired)
        .where(desired.c.fleet == fleet, desired.c.version == version)
        .values(published_us=time_us)
    )


def _phases(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[Phase, ...]]:
    query = (
        select(rollout_phases)
        .where(rollout_phases.c.rollout.in_(list(ids)))
        .order_by(rollout_phases.c.rollout, rollout_phases.c.number)
    )
    found: dict[str, list[Phase]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[row["rollout"]].append(
            Phase(
                kind=PhaseKind(row["kind"]),
                **row["settings"] | {"devices": tuple(row["settings"]["devices"])},
                state=PhaseState(row["state"]),
                started_us=row["started_us"],
                ended_us=row["ended_us"],
                gate=row["gate"],
            )
        )
    return {rollout: tuple(phases) for rollout, phases in found.items()}


def _rollout(row: RowMapping, phases: tuple[Phase, ...]) -> Rollout:
    settings, pending = row["settings"], row["settings"]["pending"]
    return Rollout(
        id=row["id"],
        fleet=row["fleet"],
        slot=row["slot"],
        model=settings["model"],
        release_counter=row["release_counter"],
        digest=row["digest"],
        target_path=row["target_path"],
        salt=row["salt"],
        phases=phases,
        policy=Policy(**settings["policy"]),
        where=settings["where"],
        accepted=row["accepted"],
        state=RolloutState(row["state"]),
        reason=row["reason"],
        created_us=row["created_us"],
        created_by=row["created_by"],
        started_us=settings["started_us"],
        after_version=settings["after_version"],
        forgiven_us=settings["forgiven_us"],
        pending=None if pending is None else Pending(**pending),
    )
