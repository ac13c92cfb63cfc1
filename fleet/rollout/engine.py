# SPDX-License-Identifier: Apache-2.0
"""The rollout engine: looks at the devices, moves rollouts on, publishes wishes.

Owns the order of effects. A change of a rollout is committed first; then the document
gets its version and is committed as not yet published; then it is published and
announced. Whatever is interrupted, the next turn finds and finishes. All decisions are
made in ``planner``, ``gate`` and ``desired``.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

from sqlalchemy import Connection

from edge_contract.errors import EdgeError
from fleet.audit.log import append_audit
from fleet.errors import NotFoundError
from fleet.rollout import desired, planner, records
from fleet.rollout.errors import RolloutConflictError, RolloutRequestError
from fleet.rollout.model import (
    Device,
    DeviceOutcome,
    Observation,
    PhaseKind,
    Rollout,
    RolloutState,
)
from fleet.rollout.request import RolloutRequest, check_request, parse_phases
from fleet.services import Services
from fleet.store.engine import reading, writing

_LOG = logging.getLogger(__name__)
_SYSTEM = "system"
_DEVICES_PER_SECOND = 10  # how fast a fleet is let loose on the file server

PublishDesired = Callable[[str, bytes], None]


class RolloutEngine:
    """The rollouts of one server; safe to use from several threads.

    Args:
        services: What every feature is built from.
        publish_desired: Publishes a ``desired`` document for a fleet; doing it twice
            with the same bytes is harmless.
        offers: Tells which deltas lead to a release digest.
    """

    def __init__(
        self,
        services: Services,
        publish_desired: PublishDesired,
        offers: desired.Offers = desired.no_offers,
    ) -> None:
        self._services = services
        self._publish_desired = publish_desired
        self._offers = offers
        self._lock = Lock()

    def tick(self) -> None:
        """Look at all fleets once; called every second.

        Raises:
            EdgeError: A fleet could not be served; the others were.
            OSError: The disk refuses; the next turn tries again.
        """
        problems: list[EdgeError | OSError] = []
        for fleet in self._services.config.fleets:
            try:
                with self._lock:
                    self._advance(fleet)
                    self._publish(fleet)
            except (EdgeError, OSError) as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def create(self, request: RolloutRequest, actor: str) -> Rollout:
        """Begin a rollout.

        Raises:
            NotFoundError: No such fleet or release.
            RolloutConflictError: Another rollout of this slot is under way.
            RolloutRequestError: The request makes no sense.
        """
        check_request(request)
        fleet = request.fleet
        if fleet not in self._services.config.fleets:
            raise NotFoundError(
                f"fleet {fleet[:40]}: there is none of this name",
                next_step="name one of the fleets of fleet.yaml",
            )
        with self._lock, writing(self._services.engine) as connection:
            for other in records.list_rollouts(connection, fleet):
                if other.state.is_active and other.slot == request.slot:
                    raise RolloutConflictError(
                        f"fleet {fleet}, slot {request.slot}: expected no rollout under"
                        f" way, found {other.id}, which is {other.state.value}",
                        next_step=f"wait, or `edge-fleet rollout abort {other.id}`",
                    )
            self._check_tags(connection, request)
            rollout = self._new_rollout(connection, request, actor)
            self._save(connection, rollout, actor, "rollout.create")
        return rollout

    def pause(self, rollout: str, actor: str) -> Rollout:
        """Let no further device begin until ``resume``."""
        return self._change(rollout, actor, "rollout.pause", _pause)

    def resume(self, rollout: str, actor: str, accepted: str | None) -> Rollout:
        """Go on after a pause or a hold, perhaps accepting insufficient evidence."""

        def change(current: Rollout) -> Rollout:
            _require(current, {RolloutState.PAUSED, RolloutState.HELD}, "resume")
            text = current.accepted if accepted is None else accepted
            resumed = replace(
                current, state=RolloutState.RUNNING, reason="", accepted=text
            )
            check_request(RolloutRequest(current.model, None, accepted=text))
            return resumed

        return self._change(rollout, actor, "rollout.resume", change)

    def abort(self, rollout: str, actor: str) -> Rollout:
        """End a rollout; its devices return to what they had before."""
        return self._change(rollout, actor, "rollout.abort", _abort)

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
            devices = records.list_devices(connection, found.fleet)
            observations = records.observe_devices(connection, found)
        unknown = Observation(DeviceOutcome.UNKNOWN)
        return found, {
            device: observations.get(device, unknown)
            for device in planner.find_reached(found, devices)
        }

    def _new_rollout(
        self, connection: Connection, request: RolloutRequest, actor: str
    ) -> Rollout:
        release = records.find_release(connection, request.model, request.release)
        return Rollout(
            id=records.take_rollout_id(connection),
            fleet=request.fleet,
            slot=request.slot,
            model=release.model,
            release_counter=release.release_counter,
            digest=release.digest,
            target_path=release.target_path,
            salt=secrets.token_hex(8),
            phases=request.phases or parse_phases(["1"]),
            policy=request.policy,
            tags=dict(request.tags),
            accepted=request.accepted,
            created_us=self._services.clock.wall_us(),
            created_by=actor,
        )

    def _check_tags(self, connection: Connection, request: RolloutRequest) -> None:
        devices = records.list_devices(connection, request.fleet)
        fits = any(planner.has_tags(device, request.tags) for device in devices)
        if request.tags and not fits:
            words = ", ".join(f"{key}={value}" for key, value in request.tags.items())
            raise RolloutRequestError(
                f"fleet {request.fleet}: expected devices with the tags {words},"
                " found none",
                next_step="`edge-fleet device list` shows the tags",
            )

    def _change(
        self,
        rollout: str,
        actor: str,
        action: str,
        change: Callable[[Rollout], Rollout],
    ) -> Rollout:
        with self._lock, writing(self._services.engine) as connection:
            changed = change(records.find_rollout(connection, rollout))
            self._save(connection, changed, actor, action)
        return changed

    def _advance(self, fleet: str) -> None:
        with reading(self._services.engine) as connection:
            active = [
                one
                for one in records.list_rollouts(connection, fleet)
                if one.state is RolloutState.RUNNING
            ]
            if not active:
                return
            devices = records.list_devices(connection, fleet)
            moves = [
                (
                    one,
                    planner.step(
                        one,
                        devices,
                        records.observe_devices(connection, one),
                        self._services.clock.wall_us(),
                    ),
                )
                for one in active
            ]
        for before, after in moves:
            if after != before:
                self._record_move(before, after)

    def _record_move(self, before: Rollout, after: Rollout) -> None:
        is_move = (before.state, _phase_states(before)) != (
            after.state,
            _phase_states(after),
        )
        with writing(self._services.engine) as connection:
            if is_move:
                self._save(connection, after, _SYSTEM, "rollout.gate")
            else:
                records.save_rollout(connection, after, self._services.clock.wall_us())
        if is_move:
            _LOG.info(
                "rollout %s: %s, phases %s: %s",
                after.id,
                after.state.value,
                ", ".join(_phase_states(after)),
                after.reason or "going on",
            )

    def _save(
        self, connection: Connection, rollout: Rollout, actor: str, action: str
    ) -> None:
        time_us = self._services.clock.wall_us()
        records.save_rollout(connection, rollout, time_us)
        append_audit(
            connection,
            time_us=time_us,
            actor=actor,
            action=action,
            subject=rollout.id,
            detail=_audit_detail(rollout),
        )

    def _publish(self, fleet: str) -> None:
        engine, clock = self._services.engine, self._services.clock
        with reading(engine) as connection:
            record = records.find_desired(connection, fleet)
            rollouts = records.list_rollouts(connection, fleet)
            active = [one for one in rollouts if one.state.is_active]
            devices: tuple[Device, ...] = ()
            observations: dict[str, dict[str, Observation]] = {}
            if active:
                devices = records.list_devices(connection, fleet)
                observations = {
                    one.id: records.observe_devices(connection, one) for one in active
                }
        slots = {
            slot: desired.build_rules(
                [one for one in rollouts if one.slot == slot],
                devices,
                observations,
                self._offers,
            )
            for slot in sorted({one.slot for one in rollouts})
        }
        if record is None and not slots:
            return
        if record is None or record.slots != slots:
            with writing(engine) as connection:
                record = records.take_desired(connection, fleet, slots, clock.wall_us())
        elif record.is_published:
            return
        content = desired.build_document(fleet, record.version, record.slots)
        self._publish_desired(fleet, content)
        with writing(engine) as connection:
            records.mark_published(connection, fleet, record.version, clock.wall_us())
        self._announce(fleet, record.version, active, devices)

    def _announce(
        self,
        fleet: str,
        version: int,
        active: list[Rollout],
        devices: tuple[Device, ...],
    ) -> None:
        reached = max(
            (len(planner.find_reached(one, devices)) for one in active), default=0
        )
        is_wide = any(
            phase.kind is not PhaseKind.CANARY
            for one in active
            for phase in one.reached
        )
        limit = int(self._services.config.rollout.announce_spread_seconds)
        spread = min(limit, reached // _DEVICES_PER_SECOND) if is_wide else 0
        self._services.downlink.publish_announce(fleet, version, spread)


def _pause(current: Rollout) -> Rollout:
    _require(current, {RolloutState.RUNNING, RolloutState.HELD}, "pause")
    return replace(current, state=RolloutState.PAUSED, reason="paused by a person")


def _abort(current: Rollout) -> Rollout:
    active = {state for state in RolloutState if state.is_active}
    _require(current, active, "abort")
    return replace(current, state=RolloutState.ABORTED, reason="aborted by a person")


def _require(rollout: Rollout, states: set[RolloutState], verb: str) -> None:
    if rollout.state not in states:
        expected = " or ".join(sorted(state.value for state in states))
        raise RolloutConflictError(
            f"rollout {rollout.id}: cannot {verb}: expected it to be {expected}, found"
            f" {rollout.state.value}",
            next_step="to go back, `edge-fleet rollout create` with the older release",
        )


def _phase_states(rollout: Rollout) -> list[str]:
    return [phase.state.value for phase in rollout.phases]


def _audit_detail(rollout: Rollout) -> dict[str, Any]:
    return {
        "fleet": rollout.fleet,
        "slot": rollout.slot,
        "target": rollout.target_path,
        "digest": rollout.digest,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "accepted": rollout.accepted,
        "phases": [
            {
                "kind": phase.kind.value,
                "amount": phase.amount,
                "devices": list(phase.devices),
                "state": phase.state.value,
                "gate": None if phase.gate is None else dict(phase.gate),
            }
            for phase in rollout.phases
        ],
    }
