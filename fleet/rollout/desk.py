# SPDX-License-Identifier: Apache-2.0
"""Where people act on rollouts: create, start, stop, go on, go back, approve.

Owns the transactions of these verbs, each with its audit entry, and the preview of a
draft. What is allowed is in ``decisions`` and ``request``; what follows is the
engine's turn.
"""

import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from threading import Lock
from typing import Any

from sqlalchemy import Connection

from fleet.audit.log import append_audit
from fleet.errors import NotFoundError
from fleet.rollout import decisions, planner, records, sightings
from fleet.rollout.errors import RolloutConflictError, RolloutRequestError
from fleet.rollout.model import (
    Device,
    DeviceOutcome,
    Observation,
    Pending,
    PhaseKind,
    Rollout,
    RolloutState,
)
from fleet.rollout.request import RolloutRequest, check_request, parse_phases
from fleet.services import Services
from fleet.store.engine import reading, writing

SYSTEM = "system"
_Change = Callable[[Connection, Rollout], Rollout]


class RolloutDesk:
    """The verbs of people; safe to use from several threads.

    Args:
        services: What every feature is built from.
        lock: Held over each change; the engine holds it over each turn.
    """

    def __init__(self, services: Services, lock: Lock) -> None:
        self._services = services
        self._lock = lock

    def create(self, request: RolloutRequest, actor: str) -> Rollout:
        """Write a rollout down, and start it unless it is to be a draft.

        Raises:
            NotFoundError: No such fleet or release.
            RolloutConflictError: Another rollout of this slot is under way.
            RolloutRequestError: The request makes no sense, or means no device.
            RolloutApprovalError: A second person has to approve, and nobody knows who
                asks.
        """
        with self._lock, writing(self._services.engine) as connection:
            rollout = self._draft(connection, request, actor)
            self._save(connection, rollout, actor, "rollout.create")
            if not request.is_draft:
                rollout = self._start(connection, rollout, actor)
        return rollout

    def preview(self, request: RolloutRequest) -> tuple[Rollout, list[tuple[str, ...]]]:
        """Return what ``create`` would make, and whom each phase would add."""
        with reading(self._services.engine) as connection:
            rollout = self._draft(connection, request, "")
            return rollout, self._plan(connection, rollout)

    def start(self, rollout: str, actor: str) -> Rollout:
        """Begin a draft, or ask for it where a second person has to approve."""
        with self._lock, writing(self._services.engine) as connection:
            return self._start(
                connection, records.find_rollout(connection, rollout), actor
            )

    def pause(self, rollout: str, actor: str) -> Rollout:
        """Let no further device begin until ``resume``."""
        return self._change(
            rollout, actor, "rollout.pause", lambda _, one: decisions.pause(one)
        )

    def resume(self, rollout: str, actor: str, text: str | None) -> Rollout:
        """Go on after a pause, a hold or a halt."""
        return self._do(rollout, decisions.RESUME, text or "", actor)

    def promote(self, rollout: str, actor: str, text: str) -> Rollout:
        """Let the running phase pass, on record."""
        return self._do(rollout, decisions.PROMOTE, text, actor)

    def roll_back(self, rollout: str, actor: str) -> Rollout:
        """Bring the rollout's devices back to what they had before."""
        return self._do(rollout, decisions.ROLL_BACK, "", actor)

    def abort(self, rollout: str, actor: str) -> Rollout:
        """End a rollout; its devices return to what they had before."""
        return self._change(
            rollout, actor, "rollout.abort", lambda _, one: decisions.abort(one)
        )

    def approve(self, rollout: str, actor: str) -> Rollout:
        """Do what somebody else asked for."""

        def change(connection: Connection, current: Rollout) -> Rollout:
            pending = decisions.find_approved(current, actor)
            return self._carry_out(connection, current, pending)

        return self._change(rollout, actor, "rollout.approve", change)

    def release_device(self, device: str, actor: str) -> int:
        """Let a device out of the penalty box."""
        now_us = self._services.clock.wall_us()
        with self._lock, writing(self._services.engine) as connection:
            released = sightings.release_device(connection, device, now_us)
            append_audit(
                connection,
                time_us=now_us,
                actor=actor,
                action="rollout.release",
                subject=device,
                detail={"releases": released},
            )
        return released

    def list_boxed(self) -> tuple[sightings.Penalty, ...]:
        """Return who is in the penalty box, of all fleets."""
        with reading(self._services.engine) as connection:
            return tuple(
                one
                for fleet in self._services.config.fleets
                for one in sightings.list_penalties(connection, fleet)
            )

    def list_rollouts(self) -> tuple[Rollout, ...]:
        """Return all rollouts, newest first."""
        with reading(self._services.engine) as connection:
            return records.list_rollouts(connection)

    def find_rollout(self, rollout: str) -> tuple[Rollout, dict[str, Observation]]:
        """Return a rollout and what became of every device that it has reached.

        Raises:
            NotFoundError: There is none of this name.
        """
        with reading(self._services.engine) as connection:
            found = records.find_rollout(connection, rollout)
            devices = sightings.list_devices(connection, found.fleet)
            observations = sightings.observe_devices(connection, found)
        unknown = Observation(DeviceOutcome.UNKNOWN)
        return found, {
            device: observations.get(device, unknown)
            for device in planner.find_reached(found, devices)
        }

    def plan(self, rollout: Rollout) -> list[tuple[str, ...]]:
        """Return whom each phase of a draft would add, as of now."""
        with reading(self._services.engine) as connection:
            return self._plan(connection, rollout)

    def count_serving(self, rollout: Rollout) -> int:
        """Return how many devices say that they serve the rollout's release."""
        with reading(self._services.engine) as connection:
            serving = sightings.list_serving(connection, rollout.fleet, rollout.slot)
        return sum(one.digest == rollout.digest for one in serving.values())

    def _draft(
        self, connection: Connection, request: RolloutRequest, actor: str
    ) -> Rollout:
        check_request(request)
        fleet = request.fleet
        if fleet not in self._services.config.fleets:
            raise NotFoundError(
                f"fleet {fleet[:40]}: there is none of this name",
                next_step="name one of the fleets of fleet.yaml",
            )
        devices = sightings.list_devices(connection, fleet)
        _check_queries(request, devices)
        release = records.find_release(connection, request.model, request.release)
        _check_slot(connection, fleet, request.slot)
        is_real = bool(actor)
        return Rollout(
            id=records.take_rollout_id(connection) if is_real else "preview",
            fleet=fleet,
            slot=request.slot,
            model=release.model,
            release_counter=release.release_counter,
            digest=release.digest,
            target_path=release.target_path,
            salt=secrets.token_hex(8),
            phases=request.phases or parse_phases(["1"]),
            policy=request.policy,
            where=request.where,
            accepted=request.accepted,
            state=RolloutState.DRAFT,
            reason="not started",
            created_us=self._services.clock.wall_us(),
            created_by=actor,
        )

    def _start(self, connection: Connection, rollout: Rollout, actor: str) -> Rollout:
        return self._ask_or_do(
            connection,
            rollout,
            decisions.START,
            "",
            actor,
            is_override=rollout.accepted is not None,
        )

    def _do(self, rollout: str, action: str, text: str, actor: str) -> Rollout:
        with self._lock, writing(self._services.engine) as connection:
            return self._ask_or_do(
                connection,
                records.find_rollout(connection, rollout),
                action,
                text,
                actor,
                is_override=bool(text),
            )

    def _ask_or_do(
        self,
        connection: Connection,
        rollout: Rollout,
        action: str,
        text: str,
        actor: str,
        *,
        is_override: bool,
    ) -> Rollout:
        now_us = self._services.clock.wall_us()
        # Also where it only asks: what cannot be done is refused at once.
        changed = self._carry_out(
            connection, rollout, Pending(action, actor, text, now_us)
        )
        name = f"rollout.{action}"
        approve = self._services.config.rollout.approve
        if decisions.needs_second_person(approve, action, is_override=is_override):
            changed = decisions.ask(rollout, action, text, actor, now_us)
            name = f"rollout.ask.{action}"
        self._save(connection, changed, actor, name)
        return changed

    def _carry_out(
        self, connection: Connection, rollout: Rollout, pending: Pending
    ) -> Rollout:
        now_us = self._services.clock.wall_us()
        if pending.action == decisions.START:
            _check_slot(connection, rollout.fleet, rollout.slot)
            record = records.find_desired(connection, rollout.fleet)
            version = 0 if record is None else record.version
            return decisions.start(rollout, now_us, version)
        if pending.action == decisions.RESUME:
            return decisions.resume(rollout, pending.text or None, now_us)
        if pending.action == decisions.PROMOTE:
            return decisions.promote(rollout, pending.text, pending.by)
        older = find_older(connection, rollout)
        return decisions.roll_back(rollout, older, pending.by)

    def _change(
        self, rollout: str, actor: str, action: str, change: _Change
    ) -> Rollout:
        with self._lock, writing(self._services.engine) as connection:
            changed = change(connection, records.find_rollout(connection, rollout))
            self._save(connection, changed, actor, action)
        return changed

    def _save(
        self, connection: Connection, rollout: Rollout, actor: str, action: str
    ) -> None:
        save_audited(connection, rollout, actor, action, self._services.clock.wall_us())

    def _plan(self, connection: Connection, rollout: Rollout) -> list[tuple[str, ...]]:
        devices = sightings.list_devices(connection, rollout.fleet)
        now_us = self._services.clock.wall_us()
        known: set[str] = set()
        added = []
        for phase in rollout.phases:
            chosen = phase
            if phase.kind is PhaseKind.CANARY and not phase.devices:
                names = planner.choose_canaries(rollout, phase.amount, devices, now_us)
                chosen = replace(phase, devices=names)
            found = planner.find_concerned(rollout, [chosen], devices)
            added.append(tuple(one for one in found if one not in known))
            known |= set(found)
        return added


def save_audited(
    connection: Connection, rollout: Rollout, actor: str, action: str, time_us: int
) -> None:
    """Store a rollout and what was done to it, in one transaction."""
    records.save_rollout(connection, rollout, time_us)
    append_audit(
        connection,
        time_us=time_us,
        actor=actor,
        action=action,
        subject=rollout.id,
        detail=_audit_detail(rollout),
    )


def find_older(connection: Connection, rollout: Rollout) -> str:
    """Return what the devices of a rollout return to when it ends, in words.

    Raises:
        RolloutConflictError: There is nothing, it was withdrawn, or the rollout decides
            nothing any more.
    """
    slot = [
        one
        for one in records.list_rollouts(connection, rollout.fleet)
        if one.slot == rollout.slot
    ]
    place = [one.id for one in slot].index(rollout.id)
    for newer in slot[:place]:
        is_over = newer.state is RolloutState.COMPLETED and not newer.where
        if is_over or newer.state.is_active:
            raise RolloutConflictError(
                f"rollout {rollout.id}: cannot roll back: expected it to be the newest"
                f" of slot {rollout.slot}, found {newer.id}, {newer.state.value}",
                next_step=f"roll back {newer.id} first",
            )
    older = [one for one in slot[place + 1 :] if one.state is RolloutState.COMPLETED]
    everyone = next((n for n, one in enumerate(older) if not one.where), len(older))
    older = older[: everyone + 1]
    if not older:
        raise RolloutConflictError(
            f"rollout {rollout.id}: cannot roll back: expected a completed rollout of"
            f" slot {rollout.slot} before it, found none",
            next_step=f"`edge-fleet rollout abort {rollout.id}` stops it; create one of"
            " another release",
        )
    names = [f"{one.model} release {one.release_counter}" for one in older]
    for name, one in zip(names, older, strict=True):
        if records.is_withdrawn(connection, one.digest):
            raise RolloutConflictError(
                f"rollout {rollout.id}: cannot roll back: {name} was withdrawn by its"
                " builder, devices would refuse it",
                next_step="publish a good release and create a rollout of it",
            )
    return " and ".join(dict.fromkeys(names))


def _check_slot(connection: Connection, fleet: str, slot: str) -> None:
    for other in records.list_rollouts(connection, fleet):
        if other.state.is_active and other.slot == slot:
            raise RolloutConflictError(
                f"fleet {fleet}, slot {slot}: expected no rollout under way, found"
                f" {other.id}, which is {other.state.value}",
                next_step=f"wait, or `edge-fleet rollout abort {other.id}`",
            )


def _check_queries(request: RolloutRequest, devices: tuple[Device, ...]) -> None:
    fitting = planner.find_fitting(request.where, devices)
    queries = [(request.where, devices)] if request.where else []
    queries += [(one.query, fitting) for one in request.phases if one.query]
    for query, among in queries:
        if planner.find_fitting(query, among):
            continue
        tags = sorted(
            {f"{key}={value}" for one in among for key, value in one.tags.items()}
        )
        raise RolloutRequestError(
            f"fleet {request.fleet}: expected devices with {query}, found none among"
            f" {len(among)}, whose tags are {', '.join(tags[:20]) or 'none'}",
            next_step="`edge-fleet device list --where QUERY` shows whom a query means",
        )


def _audit_detail(rollout: Rollout) -> dict[str, Any]:
    return {
        "fleet": rollout.fleet,
        "slot": rollout.slot,
        "target": rollout.target_path,
        "digest": rollout.digest,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "accepted": rollout.accepted,
        "where": rollout.where,
        "policy": asdict(rollout.policy),
        "pending": None if rollout.pending is None else asdict(rollout.pending),
        "phases": [
            {
                "kind": phase.kind.value,
                "amount": phase.amount,
                "query": phase.query,
                "devices": list(phase.devices),
                "state": phase.state.value,
                "promoted": phase.promoted,
                "gate": None if phase.gate is None else dict(phase.gate),
            }
            for phase in rollout.phases
        ],
    }
