# SPDX-License-Identifier: Apache-2.0
"""The alerts' engine: facts in, alerts and deliveries out, safe to kill at any moment.

Owns the transactions: an alert that opens or closes and what is queued of it are
written together, so that a kill tells nothing twice and forgets nothing. A tick reads
first and takes the writer's lock only when something changes.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Engine

from fleet.alerts.conditions import EVENTS, FADE_SECONDS, read_turn
from fleet.alerts.device_rules import View, find_device_symptoms
from fleet.alerts.documents import Event, event_document
from fleet.alerts.fact_rules import (
    FORGED,
    STOPPED,
    find_conditions,
    find_ending_signatures,
    find_forgeries,
    find_stopped_rollouts,
    find_stuck_updates,
    find_verdicts,
)
from fleet.alerts.lifecycle import Plan, hold_us, is_muted, plan
from fleet.alerts.symptom import Symptom
from fleet.config import AlertsConfig
from fleet.services import Clock
from fleet.store import facts
from fleet.store.alerts import (
    delete_old_alerts,
    delete_waiting_alert,
    insert_alert,
    insert_delivery,
    list_alert_mutes,
    list_live_alerts,
    update_alert,
)
from fleet.store.counters import read_counter, set_counter
from fleet.store.engine import reading, writing
from fleet.store.releases import list_releases
from fleet.store.signatures import list_ending_signatures
from fleet.store.windows import HOUR_US

_LOG = logging.getLogger(__name__)
_SECOND_US: Final = 1_000_000
_EVENTS_READ: Final = "alerts/events"


class AlertEngine:
    """Turns facts into alerts.

    Args:
        engine: The database.
        clock: The time of alerts.
        config: Limits, and how long things last.
        channels: Names of the channels that are told.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        config: AlertsConfig,
        channels: Sequence[str],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._config = config
        self._channels = tuple(channels)
        self._listening_us = clock.wall_us()
        self._pruned_hour = 0

    def tick(self) -> None:
        """Compare facts with alerts and write what changed."""
        now_us = self._clock.wall_us()
        self._read_events(now_us)
        with reading(self._engine) as connection:
            mutes = list_alert_mutes(connection, now_us)
            made = plan(
                self._find_symptoms(connection, now_us),
                list_live_alerts(connection),
                mutes,
                now_us,
                self._config.clear_seconds,
            )
        if made:
            with writing(self._engine) as connection:
                self._apply(connection, made, mutes, now_us)
        self._prune(now_us)

    def _find_symptoms(self, connection: Connection, now_us: int) -> list[Symptom]:
        config = self._config
        devices = facts.list_health(connection)
        fleets = {one["id"]: one["fleet"] for one in devices}
        names = {
            bytes.fromhex(one["digest"])[:8]: one["name"]
            for one in list_releases(connection)
        }
        view = View(
            now_us, self._listening_us, config.limits, config.budgets_seconds, names
        )
        forged = facts.list_refusals_since(connection, FORGED, now_us // HOUR_US - 1)
        updates = facts.list_latest_updates(connection)
        rollouts = facts.list_stopped_rollouts(connection, STOPPED)
        return [
            *find_device_symptoms(devices, view),
            *find_forgeries(forged, fleets, config.limits),
            *find_stuck_updates(updates, fleets, now_us, config.limits),
            *find_stopped_rollouts(rollouts),
            *find_ending_signatures(list_ending_signatures(connection)),
            *find_verdicts(facts.list_verdict_facts(connection)),
            *find_conditions(facts.list_conditions(connection)),
        ]

    # -- events --

    def _read_events(self, now_us: int) -> None:
        with reading(self._engine) as connection:
            seen = read_counter(connection, _EVENTS_READ)
            newest = facts.last_event_id(connection)
            faded = self._faded(connection, now_us)
        if newest <= seen and not faded:
            return
        with writing(self._engine) as connection:
            for key in faded:
                facts.drop_condition(connection, key)
            while rows := facts.list_events_since(connection, seen, EVENTS):
                for row in rows:
                    self._turn(connection, row)
                seen = int(rows[-1]["id"])
            set_counter(connection, _EVENTS_READ, max(seen, newest))

    def _faded(self, connection: Connection, now_us: int) -> list[tuple[str, str, str]]:
        return [
            (one["rule"], one["device"], one["part"])
            for one in facts.list_conditions(connection)
            if one["rule"] in FADE_SECONDS
            and now_us - one["since_us"] > FADE_SECONDS[one["rule"]] * _SECOND_US
        ]

    def _turn(self, connection: Connection, row: dict[str, Any]) -> None:
        turn = read_turn(row["body"])
        key = (turn.rule, row["device"], turn.part)
        if turn.begins:
            since_us = row["received_us"]
            facts.put_condition(connection, key, since_us=since_us, detail=turn.detail)
        else:
            facts.drop_condition(connection, key)

    # -- writing --

    def _apply(
        self,
        connection: Connection,
        made: Plan,
        mutes: Sequence[dict[str, Any]],
        now_us: int,
    ) -> None:
        for alert in made.forget:
            delete_waiting_alert(connection, alert)
        for alert, values in made.change.items():
            update_alert(connection, alert, values)
        for symptom in made.begin:
            insert_alert(connection, _new_row(symptom, now_us))
        began = {one.key for one in made.begin}
        for row in list_live_alerts(connection):
            key = (row["rule"], row["fleet"], row["subject"])
            is_told_now = key in began and row["opened_us"] and not is_muted(row, mutes)
            if row["id"] in made.tell or is_told_now:
                self._tell(connection, row, now_us)
            elif row["id"] in made.close:
                self._close(connection, row, now_us)

    def _tell(self, connection: Connection, row: dict[str, Any], now_us: int) -> None:
        self._queue(connection, row, "opened", now_us)
        update_alert(connection, row["id"], {"told_us": now_us})
        _LOG.info("alert %d: %s", row["id"], row["title"])

    def _close(self, connection: Connection, row: dict[str, Any], now_us: int) -> None:
        values = {"closed_us": now_us, "close_reason": "it is well again"}
        update_alert(connection, row["id"], values)
        _LOG.info("alert %d closed: %s", row["id"], row["title"])
        if row["told_us"] is not None:
            self._queue(connection, row | values, "closed", now_us)

    def _queue(
        self, connection: Connection, row: dict[str, Any], event: Event, now_us: int
    ) -> None:
        for channel in self._channels:
            insert_delivery(
                connection,
                {
                    "channel": channel,
                    "alert": row["id"],
                    "event": event,
                    "body": event_document(row, event),
                    "created_us": now_us,
                    "attempts": 0,
                    "next_us": now_us,
                },
            )

    def _prune(self, now_us: int) -> None:
        hour = now_us // HOUR_US
        if hour == self._pruned_hour:
            return
        self._pruned_hour = hour
        before_us = now_us - int(self._config.keep_seconds * _SECOND_US)
        with writing(self._engine) as connection:
            delete_old_alerts(connection, before_us)


def _new_row(symptom: Symptom, now_us: int) -> dict[str, Any]:
    return {
        "rule": symptom.rule,
        "fleet": symptom.fleet,
        "subject": symptom.subject,
        "device": symptom.device,
        "level": symptom.level,
        "title": symptom.title,
        "next_step": symptom.next_step,
        "link": symptom.link,
        "began_us": now_us,
        "opened_us": None if hold_us(symptom.rule) else now_us,
    }
