# SPDX-License-Identifier: Apache-2.0
"""The drift engine: reads new windows, keeps states, opens and closes verdicts.

Owns the transaction: everything that one tick reads and writes is in it, so that a kill
at any moment repeats a tick or does not. Fleets of at least eight devices are judged by
``fleetwide``; devices of smaller ones each on its own, by the pure rules of ``device``
and ``decide``. It assumes one writer of windows (their ids grow in the order of
commits).
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from edge_contract.errors import EdgeError
from edge_contract.window import WindowStatistics, check_statistics
from fleet.drift.cusum import Cusum
from fleet.drift.decide import (
    Finding,
    find_drift,
    is_back,
    name_fault,
)
from fleet.drift.device import DeviceState, observe
from fleet.drift.fleetwide.engine import FleetwideEngine
from fleet.drift.parameters import DriftParameters
from fleet.drift.track import Place, Track, decode_track, encode_track, is_late
from fleet.drift.words import evidence_document
from fleet.drift.yardstick import Yardstick
from fleet.services import Clock
from fleet.store.devices import list_devices
from fleet.store.drift import (
    close_former_verdicts,
    close_verdict,
    find_state,
    list_device_windows_since,
    list_devices_since,
    list_mutes,
    list_open_verdicts,
    list_states,
    open_verdict,
    replace_state,
)
from fleet.store.drift_fleets import list_large_fleets
from fleet.store.engine import reading, writing
from fleet.store.profiles import ProfileCache
from fleet.store.statistics import statistics_from_columns
from fleet.store.windows import last_window_id

_LOG = logging.getLogger(__name__)
_LONE_KINDS = ("device", "sensor_fault")
_WINDOWS_A_TICK = 500  # of one device: a long backlog must not hold the writer's lock


class DriftEngine:
    """Turns windows into verdicts; safe to kill at any moment.

    Args:
        engine: The database.
        clock: The time of verdicts.
        parameters: The operating point.
    """

    def __init__(
        self, engine: Engine, clock: Clock, parameters: DriftParameters | None = None
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._parameters = parameters or DriftParameters()
        self._profiles = ProfileCache()
        self._yardsticks: dict[bytes, Yardstick] = {}
        self._seen = 0  # all devices' windows up to here are in their states
        self._large: dict[tuple[str, bytes], FleetwideEngine] = {}

    @property
    def now_us(self) -> int:
        """The time by the engine's clock."""
        return self._clock.wall_us()

    def tick(self) -> None:
        """Take in all new windows and decide; does nothing when there are none."""
        with reading(self._engine) as connection:
            newest = last_window_id(connection)
        if newest <= self._seen:
            return
        try:
            with writing(self._engine) as connection:
                behind = self._tick(connection)
        except BaseException:
            # What was not committed must not be remembered.
            self._large.clear()
            raise
        if not behind:
            self._seen = newest

    def _tick(self, connection: Connection) -> bool:
        """Take in what is new; return whether more is waiting."""
        behind = False
        large = list_large_fleets(connection, self._parameters.cohort_devices)
        for fleet, ref_id in large:
            behind |= self._tick_large(connection, fleet, ref_id)
        fleets = {one["id"]: one["fleet"] for one in list_devices(connection)}
        for device in list_devices_since(connection, self._seen, skip=large):
            skip = [ref_id for fleet, ref_id in large if fleet == fleets.get(device)]
            behind |= self._advance(connection, device, skip)
        self._judge(connection, fleets, set(large))
        return behind

    def _tick_large(self, connection: Connection, fleet: str, ref_id: bytes) -> bool:
        """Judge a large fleet; return whether more is waiting.

        A defect that one fleet's windows bring out must not silence the others.
        """
        try:
            with connection.begin_nested():
                engine = self._find_large(connection, fleet, ref_id)
                return engine is not None and engine.tick(connection)
        except SQLAlchemyError:
            raise  # the database, not this fleet
        # A supervisor: the fleet is tried again at the next tick, from what is stored.
        except Exception:  # noqa: BLE001 - see above
            self._large.pop((fleet, ref_id), None)
            _LOG.exception("drift: fleet %s cannot be judged now", fleet)
            return False

    def _find_large(
        self, connection: Connection, fleet: str, ref_id: bytes
    ) -> FleetwideEngine | None:
        found = self._large.get((fleet, ref_id))
        if found is not None:
            return found
        profile = self._profiles.find(connection, ref_id)
        if profile is None:
            return None
        for one in list_open_verdicts(connection):
            is_lone = _is_lone(one) and one["fleet"] == fleet
            if is_lone and one["ref_id"] == ref_id:
                self._close_all(
                    connection, one["device"], "the fleet is judged as a whole now"
                )
        engine = FleetwideEngine(fleet, profile, self._clock, connection)
        return self._large.setdefault((fleet, ref_id), engine)

    def find_yardstick(self, connection: Connection, ref_id: bytes) -> Yardstick | None:
        """Return the yardstick of a reference profile, None when it is unknown."""
        found = self._yardsticks.get(ref_id)
        if found is None:
            profile = self._profiles.find(connection, ref_id)
            if profile is None:
                return None
            found = self._yardsticks.setdefault(ref_id, Yardstick.read(profile))
        return found

    def read_track(
        self, connection: Connection, row: Mapping[str, Any]
    ) -> Track | None:
        """Read a row of ``drift_states``; None (and a log line) if it is damaged."""
        yardstick = self.find_yardstick(connection, row["ref_id"])
        if yardstick is None:
            return None
        try:
            return decode_track(row["state"], yardstick.profile)
        except EdgeError as error:
            _LOG.warning("drift: device %s starts afresh: %s", row["device"], error)
            return None

    def _advance(self, connection: Connection, device: str, skip: list[bytes]) -> bool:
        """Take in a device's new windows; return whether more are waiting.

        Those under the profiles to ``skip`` are taken by the fleetwide engine.
        """
        row = find_state(connection, device)
        track = None if row is None else self.read_track(connection, row)
        last = 0 if row is None else int(row["last_window_id"])
        rows = list_device_windows_since(
            connection, device, last, limit=_WINDOWS_A_TICK, skip=skip
        )
        for window in rows:
            track = self._take(connection, device, track, window)
        if not rows or track is None:
            return False
        replace_state(
            connection,
            device,
            {
                "ref_id": track.ref_id,
                "state": encode_track(track),
                "last_window_id": rows[-1]["id"],
                "updated_us": self._clock.wall_us(),
            },
        )
        return len(rows) == _WINDOWS_A_TICK

    def _take(
        self,
        connection: Connection,
        device: str,
        track: Track | None,
        row: Mapping[str, Any],
    ) -> Track | None:
        place = Place.of(row)
        yardstick = self.find_yardstick(connection, place.ref_id)
        if yardstick is None or is_late(track, place):
            return track
        statistics = _read_statistics(row, yardstick)
        if statistics is None or statistics.epsilon_millionths:
            # The bundle's variances know nothing of the noise in a private window.
            return track
        if track is None or track.ref_id != place.ref_id:
            reason = "another model serves (new reference)"
            self._close_all(connection, device, reason)
            now_us = self._clock.wall_us()
            close_former_verdicts(
                connection, device, place.ref_id, now_us=now_us, reason=reason
            )
            state, seq = DeviceState.start(yardstick), place.seq
        else:
            state, seq = track.state, place.seq
            if track.boot_id == place.boot_id:
                seq = max(track.seq, place.seq)
        windows = [(statistics, place.closed)]
        state = observe(state, windows, yardstick, self._parameters)
        return Track(place.ref_id, place.boot_id, seq, state)

    def _close_all(self, connection: Connection, device: str, reason: str) -> None:
        for verdict in list_open_verdicts(connection):
            if verdict["device"] == device and _is_lone(verdict):
                close_verdict(
                    connection,
                    verdict["id"],
                    now_us=self._clock.wall_us(),
                    reason=reason,
                )
                _LOG.info("drift: %s: verdict closed: %s", device, reason)

    def _judge(
        self,
        connection: Connection,
        fleets: Mapping[str, str],
        large: set[tuple[str, bytes]],
    ) -> None:
        judged = {
            one["device"]: one
            for one in list_open_verdicts(connection)
            if _is_lone(one)
        }
        pools: dict[str, dict[str, tuple[DeviceState, Yardstick]]] = {}
        for row in list_states(connection):
            device = row["device"]
            yardstick = self.find_yardstick(connection, row["ref_id"])
            track = self.read_track(connection, row)
            if device not in fleets or yardstick is None or track is None:
                continue
            if (fleets[device], row["ref_id"]) in large:
                continue
            if device in judged:
                stream = (track.state, yardstick)
                if not self._maybe_name(connection, judged[device], stream):
                    self._maybe_clear(connection, row, track, judged[device])
            else:
                pool = pools.setdefault(fleets[device], {})
                pool[device] = (track.state, yardstick)
        muted = {
            (one["fleet"], one["subject"])
            for one in list_mutes(connection, self._clock.wall_us())
        }
        for fleet, pool in pools.items():
            for device, finding in find_drift(pool, self._parameters).items():
                # A state that still speaks of drift when the mute ends opens one then.
                if (fleet, device) not in muted:
                    self._open(connection, (device, fleet), finding, pool[device])

    def _open(
        self,
        connection: Connection,
        subject: tuple[str, str],
        finding: Finding,
        stream: tuple[DeviceState, Yardstick],
    ) -> None:
        device, fleet = subject
        state, yardstick = stream
        profile = yardstick.profile
        evidence = evidence_document(
            device, finding, state, profile.unit_rows, self._parameters
        )
        open_verdict(
            connection,
            {
                "device": device,
                "subject": device,
                "fleet": fleet,
                "ref_id": profile.ref_id,
                "kind": "device" if finding.fault is None else "sensor_fault",
                "provisional": finding.provisional,
                "opened_us": self._clock.wall_us(),
                "evidence": evidence,
            },
        )
        _LOG.info("drift: verdict: %s", evidence["summary"])

    def _maybe_name(
        self,
        connection: Connection,
        verdict: Mapping[str, Any],
        stream: tuple[DeviceState, Yardstick],
    ) -> bool:
        """Replace a device's verdict by that on its sensor, once it has a name."""
        evidence = verdict["evidence"]
        since = stream[0].units - int(evidence["units_at_decision"])
        if verdict["kind"] != "device":
            return False
        finding = name_fault(*stream, evidence["streams"], since)
        if finding is None:
            return False
        self._close_all(connection, verdict["device"], "it is a broken sensor")
        subject = (verdict["device"], verdict["fleet"])
        self._open(connection, subject, finding, stream)
        return True

    def _maybe_clear(
        self,
        connection: Connection,
        row: Mapping[str, Any],
        track: Track,
        verdict: Mapping[str, Any],
    ) -> None:
        yardstick = self._yardsticks[track.ref_id]
        since = track.state.units - int(verdict["evidence"]["units_at_decision"])
        if since < self._parameters.clear_units or not is_back(
            track.state, yardstick, self._parameters
        ):
            return
        self._close_all(connection, row["device"], "back at its baseline")
        # The old evidence must not reopen the verdict at the next tick.
        fresh = replace(track.state, cusum=Cusum.start(len(yardstick.sd)))
        values = {key: row[key] for key in ("ref_id", "last_window_id", "updated_us")}
        state = encode_track(replace(track, state=fresh))
        replace_state(connection, row["device"], {**values, "state": state})


def _is_lone(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict is by the rule for small fleets."""
    return verdict["kind"] in _LONE_KINDS and verdict["slot"] is None


def _read_statistics(
    row: Mapping[str, Any], yardstick: Yardstick
) -> WindowStatistics | None:
    """Read and check a row of ``windows``; None (and a log line) if it is damaged."""
    try:
        statistics = statistics_from_columns(row, yardstick.profile.layout)
        check_statistics(statistics, yardstick.profile)
    except (EdgeError, ValueError) as error:
        _LOG.warning("drift: window %s left out: %s", row["id"], error)
        return None
    return statistics
