# SPDX-License-Identifier: Apache-2.0
"""The rollout engine: looks at the devices, moves rollouts on, publishes wishes.

Owns the order of effects. A change of a rollout is committed first; then the document
gets its version and is committed as not yet published; then it is published and
announced. Whatever is interrupted, the next turn finds and finishes. All decisions are
made in ``planner``, ``gate`` and ``desired``; what people ask for comes in at ``desk``.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

from sqlalchemy import Connection

from edge_contract.errors import EdgeError
from fleet.audit.log import append_audit
from fleet.rollout import cohorts, decisions, desired, planner, records, sightings
from fleet.rollout.desk import SYSTEM, RolloutDesk, find_older, save_audited
from fleet.rollout.errors import RolloutConflictError
from fleet.rollout.gate import Evidence
from fleet.rollout.health import Health, judge_cohorts
from fleet.rollout.model import (
    Device,
    Observation,
    PhaseState,
    Rollout,
    RolloutState,
)
from fleet.services import Services
from fleet.store.engine import reading, writing

_LOG = logging.getLogger(__name__)
_CHECK_VALID_SECONDS = 3600
_ROLL_BACK = "roll-back"

PublishDesired = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class _View:
    """What one turn knows of one rollout.

    Attributes:
        devices: Those that may be chosen; not those boxed before the rollout started.
    """

    rollout: Rollout
    devices: tuple[Device, ...]
    observations: dict[str, Observation]
    evidence: Evidence


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
        self._health: dict[str, tuple[int, Health | None]] = {}
        self.desk = RolloutDesk(services, self._lock)

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

    def _advance(self, fleet: str) -> None:
        with reading(self._services.engine) as connection:
            rollouts = records.list_rollouts(connection, fleet)
            active = [one for one in rollouts if one.state.is_active]
            views = [self._look(connection, one) for one in active]
        for view in views:
            self._box(view)
            if view.rollout.state is RolloutState.RUNNING:
                self._step(view)
            elif view.rollout.state is RolloutState.HALTED:
                self._answer_halt(view.rollout)

    def _look(self, connection: Connection, rollout: Rollout) -> _View:
        now_us = self._services.clock.wall_us()
        boxed = {
            one.device
            for one in sightings.list_penalties(connection, rollout.fleet)
            if (one.slot, one.digest) == (rollout.slot, rollout.digest)
            and one.since_us < rollout.started_us
        }
        devices = tuple(
            one
            for one in sightings.list_devices(connection, rollout.fleet)
            if one.id not in boxed
        )
        observations = sightings.observe_devices(connection, rollout)
        evidence = planner.gather(rollout, devices, observations, None, now_us)
        if rollout.state is RolloutState.RUNNING and evidence.tally.succeeded:
            health = self._find_health(connection, rollout, devices, observations)
            evidence = Evidence(evidence.tally, health)
        return _View(rollout, devices, observations, evidence)

    def _find_health(
        self,
        connection: Connection,
        rollout: Rollout,
        devices: Sequence[Device],
        observations: dict[str, Observation],
    ) -> Health | None:
        """Compare with the control cohort, at most once in a while."""
        now_us = self._services.clock.wall_us()
        last_us, health = self._health.get(rollout.id, (0, None))
        every_us = int(self._services.config.rollout.health_seconds * 1_000_000)
        if now_us - last_us < every_us:
            return health
        health = None
        if cohorts.has_older_release(connection, rollout):
            found = cohorts.read_cohorts(connection, rollout, devices, observations)
            health = judge_cohorts(found, rollout.policy)
        self._health[rollout.id] = (now_us, health)
        return health

    def _box(self, view: _View) -> None:
        """Put aside who failed too often; a read first, because it is rare."""
        if max((one.failures for one in view.observations.values()), default=0) < (
            sightings.MAX_FAILURES
        ):
            return
        now_us = self._services.clock.wall_us()
        with writing(self._services.engine) as connection:
            for one in sightings.box_devices(
                connection, view.rollout, view.observations, now_us
            ):
                append_audit(
                    connection,
                    time_us=now_us,
                    actor=SYSTEM,
                    action="rollout.box",
                    subject=one.device,
                    detail={
                        "rollout": view.rollout.id,
                        "reason": one.reason,
                        "failures": one.failures,
                    },
                )
                _LOG.warning(
                    "rollout %s: %s failed %d times and is left out: %s",
                    view.rollout.id,
                    one.device,
                    one.failures,
                    one.reason,
                )

    def _step(self, view: _View) -> None:
        now_us, before = self._services.clock.wall_us(), view.rollout
        choose = partial(_choose, before, view.devices, now_us)
        after = planner.step(before, view.evidence, choose, now_us)
        if after == before:
            return
        is_move = (before.state, _phase_states(before)) != (
            after.state,
            _phase_states(after),
        )
        with writing(self._services.engine) as connection:
            if is_move:
                save_audited(connection, after, SYSTEM, "rollout.gate", now_us)
            else:
                records.save_rollout(connection, after, now_us)
        if is_move:
            _log_move(after)

    def _answer_halt(self, rollout: Rollout) -> None:
        """Go back where the rollout's policy says so, and there is something older."""
        if rollout.policy.on_halt != _ROLL_BACK:
            return
        with writing(self._services.engine) as connection:
            try:
                older = find_older(connection, rollout)
            except RolloutConflictError:
                return  # it stays halted, and a person decides
            after = decisions.roll_back(rollout, older, SYSTEM)
            save_audited(
                connection,
                after,
                SYSTEM,
                "rollout.roll-back",
                self._services.clock.wall_us(),
            )
        _log_move(after)

    def _publish(self, fleet: str) -> None:
        engine, clock = self._services.engine, self._services.clock
        with reading(engine) as connection:
            record = records.find_desired(connection, fleet)
            rollouts = records.list_rollouts(connection, fleet)
            active = [one for one in rollouts if one.state.is_active]
            devices = sightings.list_devices(connection, fleet) if rollouts else ()
            observations = {
                one.id: sightings.observe_devices(connection, one) for one in active
            }
            boxed: dict[tuple[str, str], set[str]] = defaultdict(set)
            for one in sightings.list_penalties(connection, fleet):
                boxed[one.slot, one.digest].add(one.device)
        slots = {
            slot: desired.build_rules(
                [one for one in rollouts if one.slot == slot],
                devices,
                observations,
                self._offers,
                {
                    digest: names
                    for (own, digest), names in boxed.items()
                    if own == slot
                },
            )
            for slot in sorted({one.slot for one in rollouts if one.started_us})
        }
        if record is None and not any(slots.values()):
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
        limit = int(self._services.config.rollout.announce_spread_seconds)
        hint = planner.plan_hint(active, len(devices), limit)
        downlink = self._services.downlink
        downlink.publish_announce(fleet, version, hint.spread_seconds)
        for device in hint.told:
            downlink.send_command(
                device, "check-update", {}, valid_seconds=_CHECK_VALID_SECONDS
            )


def _choose(
    rollout: Rollout, devices: Sequence[Device], now_us: int, amount: int
) -> tuple[str, ...]:
    return planner.choose_canaries(rollout, amount, devices, now_us)


def _log_move(rollout: Rollout) -> None:
    _LOG.info(
        "rollout %s: %s, phases %s: %s",
        rollout.id,
        rollout.state.value,
        ", ".join(_phase_states(rollout)),
        rollout.reason or "going on",
    )


def _phase_states(rollout: Rollout) -> list[PhaseState]:
    return [phase.state for phase in rollout.phases]
