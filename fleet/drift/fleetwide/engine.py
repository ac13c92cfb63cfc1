# SPDX-License-Identifier: Apache-2.0
"""The fleetwide engine: stored windows in, verdicts out, safe to kill at any moment.

Owns the transaction's content for one fleet under one profile: windows since the last
one taken, verdicts, and from time to time the state. After a kill the windows since the
stored state are taken again; they give the same verdicts, which are known by fleet,
kind, subject and slot, so none is opened twice.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection

from edge_contract.binning import Float64, Int64
from edge_contract.errors import EdgeError
from edge_contract.profile import ReferenceProfile, ValueReference
from edge_contract.window import check_statistics
from fleet.drift.accuracy import estimate_accuracy
from fleet.drift.fleetwide.codec import decode_fleet_state, encode_fleet_state
from fleet.drift.fleetwide.device_verdicts import relearn
from fleet.drift.fleetwide.feed import SLOT_US, SlotFeed, Window, slot_of, span_of
from fleet.drift.fleetwide.finding import Closing, Finding, Outcome
from fleet.drift.fleetwide.parameters import SLOTS_AN_HOUR
from fleet.drift.fleetwide.rule import FleetRule
from fleet.drift.fleetwide.scale import Scale
from fleet.drift.fleetwide.state import FleetState
from fleet.drift.fleetwide.view import make_view
from fleet.drift.fleetwide.words import finding_document
from fleet.services import Clock
from fleet.store.devices import list_devices
from fleet.store.drift import (
    close_former_verdicts,
    close_former_wide_verdicts,
    close_verdict,
    list_mutes,
    open_verdict,
)
from fleet.store.drift_fleets import (
    find_fleet_state,
    find_slot_verdict,
    list_fleet_windows_since,
    list_open_fleet_verdicts,
    list_windows_between,
    list_windows_by_id,
    replace_fleet_state,
    replace_view,
)
from fleet.store.statistics import statistics_from_columns

_LOG = logging.getLogger(__name__)
_WINDOWS_A_TICK = 10_000
_SMALL_STATE_BYTES = 2 * 1024 * 1024  # stored at every tick; larger ones each hour
_DEVICE_KINDS = ("device", "sensor_fault")


class StoredWindows:
    """The windows of a fleet in the database, summed over slots."""

    def __init__(
        self,
        connection: Connection,
        profile: ReferenceProfile,
        scale: Scale,
        state: FleetState,
    ) -> None:
        self._connection = connection
        self._profile = profile
        self._scale = scale
        self._state = state

    def sum_counts(self, device: int, since: int, until: int) -> Float64 | None:
        """Return float64 [F, 16] over slots ``since`` to ``until``; None when lost.

        Private windows count for nothing: what is left then is the mean's shift.
        """
        found = self._sum(device, since, until)
        return None if found is None else self._scale.pad(found).astype(np.float64)

    def accuracy_loss(self, device: int, since: int, until: int) -> float | None:
        """Return the least accuracy lost since a slot, None where not known."""
        outputs = self._profile.outputs
        if isinstance(outputs, ValueReference):
            return None
        found = self._sum(device, since, until)
        if found is None:
            return None
        estimate = estimate_accuracy(
            found[self._profile.layout.confidence],
            outputs.confidence_counts,
            outputs.confidence_correct,
        )
        return None if estimate is None else estimate.least_loss

    def _sum(self, device: int, since: int, until: int) -> Int64 | None:
        span = (since * SLOT_US, (until + 1) * SLOT_US)
        layout = self._profile.layout
        total, is_private = np.zeros(layout.size, dtype=np.int64), False
        rows = list_windows_between(
            self._connection, self._state.devices[device], self._profile.ref_id, span
        )
        for row in rows:
            if row["epsilon_millionths"]:
                is_private = True
                continue
            try:
                total += statistics_from_columns(row, layout).counts
            except EdgeError:
                continue
        return total if total.any() or is_private else None


class FleetwideEngine:
    """Judges one fleet under one reference profile.

    Args:
        fleet: The fleet.
        profile: The profile.
        clock: The time of verdicts.
        connection: To read the stored state.
    """

    def __init__(
        self,
        fleet: str,
        profile: ReferenceProfile,
        clock: Clock,
        connection: Connection,
    ) -> None:
        self._fleet = fleet
        self._profile = profile
        self._clock = clock
        self._scale = Scale.read(profile)
        self._last = 0
        self._stored_slot = 0
        self._load(connection)

    def tick(self, connection: Connection) -> bool:
        """Take in new windows; return whether more are waiting."""
        self._obey(connection)
        rows = list_fleet_windows_since(
            connection,
            self._fleet,
            self._profile.ref_id,
            self._last,
            limit=_WINDOWS_A_TICK,
        )
        if not rows:
            return False
        tags = {
            one["id"]: dict(one["tags"] or {})
            for one in list_devices(connection, self._fleet)
        }
        self._update_tags(tags)
        for row in rows:
            self._take(connection, row, tags)
        self._last = int(rows[-1]["id"])
        self._store(connection)
        return len(rows) == _WINDOWS_A_TICK

    # -- windows --

    def _take(
        self,
        connection: Connection,
        row: Mapping[str, Any],
        tags: Mapping[str, dict[str, str]],
    ) -> None:
        window = self._read(row)
        if window is None or window.device not in tags:
            self._state.refuse("damaged" if window is None else "revoked")
            return
        if self._state.place_of(window.device) is None:
            self._close_former(connection, window.device, len(tags))
        pool = self._pool(connection)
        for slot in self._feed.take(window, tags[window.device]):
            if slot.devices.size:
                for outcome in self._rule.advance(slot, pool):
                    self._write(connection, outcome, slot.number)

    def _pool(self, connection: Connection) -> StoredWindows:
        return StoredWindows(connection, self._profile, self._scale, self._state)

    def _read(self, row: Mapping[str, Any]) -> Window | None:
        try:
            statistics = statistics_from_columns(row, self._profile.layout)
            check_statistics(statistics, self._profile)
        except (EdgeError, ValueError) as error:
            _LOG.warning("drift: window %s left out: %s", row["id"], error)
            return None
        return Window(
            id=int(row["id"]),
            device=row["device"],
            slot=slot_of(row["start_us"], row["duration_us"]),
            release=row["digest8"].hex(),
            is_trusted=not row["retimed"],
            statistics=statistics,
            span=span_of(row["duration_us"]),
        )

    def _update_tags(self, tags: Mapping[str, dict[str, str]]) -> None:
        changed = False
        for place, device in enumerate(self._state.devices):
            found = tags.get(device, {})
            if found != self._state.tags[place]:
                self._state.tags[place], changed = found, True
        if changed:
            self._rule.tags_changed()

    # -- verdicts --

    def _obey(self, connection: Connection) -> None:
        """Let devices learn anew whose verdicts someone has closed."""
        if not self._state.judged:
            return
        open_ = {
            one["subject"]
            for one in list_open_fleet_verdicts(
                connection, self._fleet, self._profile.ref_id
            )
            if one["kind"] == "device"
        }
        for device, one in list(self._state.judged.items()):
            if self._state.devices[device] not in open_ and not one.provisional:
                relearn(self._state, device)

    def _write(self, connection: Connection, outcome: Outcome, slot: int) -> None:
        if isinstance(outcome, Closing):
            subject = (outcome.kind, outcome.subject)
            self._close(connection, subject, slot, outcome.reason)
            return
        key = (self._fleet, self._profile.ref_id, outcome.kind, outcome.subject)
        if find_slot_verdict(connection, key, outcome.slot):
            return
        # A verdict on the same subject is replaced by the newer one.
        self._close(connection, (outcome.kind, outcome.subject), slot, "seen anew")
        self._open(connection, outcome)

    def _open(self, connection: Connection, finding: Finding) -> None:
        now_us = self._clock.wall_us()
        document = finding_document(finding)
        muted = any(
            one["fleet"] == self._fleet and one["subject"] == finding.subject
            for one in list_mutes(connection, now_us)
        )
        reason = None
        if not finding.is_material:
            reason = "detected, not material"
        elif muted:
            reason = "muted"
        is_device = finding.kind in _DEVICE_KINDS
        open_verdict(
            connection,
            {
                "device": finding.subject if is_device else None,
                "subject": finding.subject,
                "fleet": self._fleet,
                "ref_id": self._profile.ref_id,
                "kind": finding.kind,
                "provisional": finding.provisional,
                "slot": finding.slot,
                "opened_us": now_us,
                "closed_us": None if reason is None else now_us,
                "close_reason": reason,
                "evidence": document,
            },
        )
        _LOG.info("drift: verdict: %s", document["summary"])

    def _close(
        self, connection: Connection, key: tuple[str, str], slot: int, reason: str
    ) -> None:
        for one in list_open_fleet_verdicts(
            connection, self._fleet, self._profile.ref_id
        ):
            is_older = one["slot"] is None or one["slot"] < slot
            if (one["kind"], one["subject"]) == key and is_older:
                now_us = self._clock.wall_us()
                close_verdict(connection, one["id"], now_us=now_us, reason=reason)
                _LOG.info("drift: %s: verdict closed: %s", key[1], reason)

    # -- the state --

    def _close_former(self, connection: Connection, device: str, fleet: int) -> None:
        """Close what was said about a device under another model's profile."""
        how: dict[str, Any] = {
            "now_us": self._clock.wall_us(),
            "reason": "another model serves (new reference)",
        }
        ref_id = self._profile.ref_id
        close_former_verdicts(connection, device, ref_id, **how)
        if 2 * len(self._state.devices) >= fleet:
            close_former_wide_verdicts(connection, self._fleet, ref_id, **how)

    def _load(self, connection: Connection) -> None:
        features = len(self._profile.features)
        found = find_fleet_state(connection, self._fleet, self._profile.ref_id)
        state, pending = FleetState(features), list[int]()
        if found is not None:
            data, self._last = found
            try:
                state, pending = decode_fleet_state(data, features)
            except EdgeError as error:
                _LOG.warning("drift: fleet %s starts afresh: %s", self._fleet, error)
        self._state = state
        self._rule = FleetRule(self._scale, state)
        self._feed = SlotFeed(self._profile, self._scale, state)
        self._stored_slot = state.slot
        self._refill(connection, pending)

    def _refill(self, connection: Connection, pending: list[int]) -> None:
        rows = list_windows_by_id(connection, pending)
        windows = [one for one in map(self._read, rows) if one is not None]
        for window in sorted(windows, key=self._feed.is_late):
            self._feed.put(window)

    def _store(self, connection: Connection) -> None:
        state = self._state
        cells = state.features * max(len(state.devices), 1)
        is_small = cells * 1000 <= _SMALL_STATE_BYTES
        is_due = state.slot - self._stored_slot >= SLOTS_AN_HOUR
        if not is_small and not is_due:
            return
        now_us = self._clock.wall_us()
        key = (self._fleet, self._profile.ref_id)
        data = encode_fleet_state(state, self._feed.pending_ids)
        values = {"last_window_id": self._last, "updated_us": now_us}
        replace_fleet_state(connection, key, data, values)
        replace_view(connection, *key, make_view(state, self._rule, self._scale))
        self._stored_slot = state.slot
