# SPDX-License-Identifier: Apache-2.0
"""What the drift engine knows, as documents for API, command line and dashboard.

Owns reading states and verdicts; it changes nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import Connection

from edge_contract.binning import Float64, Int64
from edge_contract.errors import EdgeError
from fleet.drift.decide import current_shifts, gates
from fleet.drift.device import DeviceState
from fleet.drift.engine import DriftEngine
from fleet.drift.fleetwide.parameters import SLOTS_AN_HOUR
from fleet.drift.loss_inputs import LATE_HOURS, estimate_late, read_counts
from fleet.drift.loss_words import accuracy_document
from fleet.drift.offers import offer_commands
from fleet.drift.parameters import DriftParameters
from fleet.drift.words import describe_scope
from fleet.drift.yardstick import Yardstick
from fleet.store.devices import find_device, list_devices
from fleet.store.drift import (
    find_state,
    list_device_verdicts,
    list_open_verdicts,
    list_states,
)
from fleet.store.drift_fleets import list_large_fleets, list_views
from fleet.store.performance import list_device_hours_since, list_performance
from fleet.store.statistics import statistics_from_columns
from fleet.store.windows import HOUR_US, list_latest_windows

_VERDICTS_SHOWN = 50
_UNITS_SHOWN = 4  # as many as the current shift is pooled over
_MOST_WINDOWS = 512


class DriftDocuments:
    """Reads drift documents.

    Args:
        drift: The engine, for its profiles and its way to read states.
        parameters: The operating point.
    """

    def __init__(self, drift: DriftEngine, parameters: DriftParameters) -> None:
        self._drift = drift
        self._parameters = parameters

    def read_fleet(
        self, connection: Connection, fleet: str | None = None
    ) -> dict[str, Any]:
        """Return scope, open verdicts, and every device with its features."""
        listed = list_devices(connection, fleet)
        ids = {one["id"] for one in listed}
        verdicts = [
            verdict_document(one)
            for one in list_open_verdicts(connection)
            if one["device"] in ids or _is_wide(one, fleet)
        ]
        large = set(list_large_fleets(connection, self._parameters.cohort_devices))
        fleets = {one["id"]: one["fleet"] for one in listed}
        drifted = {one["device"] for one in verdicts}
        devices = []
        for row in list_states(connection):
            if row["device"] not in ids:
                continue
            if (fleets[row["device"]], row["ref_id"]) in large:
                continue
            found = self._read_state(connection, row)
            if found is not None:
                state, yardstick = found
                document = self._device(row["device"], state, yardstick)
                if row["device"] in drifted:
                    document["status"] = "drifted"
                devices.append(document)
        views = [one["document"] for one in list_views(connection, fleet)]
        scopes = [one["scope"] for one in views]
        if devices or not views:
            scopes.append(describe_scope(len(devices), self._parameters))
        return {
            "scope": " ".join(scopes),
            "verdicts": verdicts,
            "devices": devices + [one for view in views for one in view["devices"]],
            "counted": [view["counted"] for view in views],
            "refused": [view["refused"] for view in views],
            "performance": [
                {
                    "fleet": one["fleet"],
                    "ref_id": one["ref_id"].hex(),
                    **one["document"],
                }
                for one in list_performance(connection, fleet)
            ],
        }

    def read_device(self, connection: Connection, device: str) -> dict[str, Any]:
        """Return one device with its verdicts and histograms.

        Raises:
            NotFoundError: No device has this id.
        """
        found = self._read_device(connection, device)
        return found | {"accuracy": self._read_accuracy(connection, device)}

    def _read_device(self, connection: Connection, device: str) -> dict[str, Any]:
        fleet = find_device(connection, device)["fleet"]
        verdicts = [
            verdict_document(one)
            for one in list_device_verdicts(connection, device, limit=_VERDICTS_SHOWN)
        ]
        seen = self._find_in_views(connection, device, fleet)
        if seen is not None:
            return self._read_large(connection, seen, verdicts)
        row = find_state(connection, device)
        found = None if row is None else self._read_state(connection, row)
        if found is None:
            empty = {"device": device, "status": "no windows yet", "features": []}
            return {**empty, "verdicts": verdicts, "histograms": [], "windows": 0}
        state, yardstick = found
        document = self._device(device, state, yardstick)
        if any(one["closed_us"] is None for one in verdicts):
            document["status"] = "drifted"
        document["verdicts"] = verdicts
        counts, windows = self._live_counts(connection, device, state, yardstick)
        document["histogram_windows"] = windows
        document["histograms"] = [
            _histogram(yardstick, index, counts)
            for index in range(len(yardstick.profile.features))
        ]
        return document

    def _read_accuracy(
        self, connection: Connection, device: str
    ) -> dict[str, Any] | None:
        """Return a device's estimated accuracy of late; None where not known."""
        latest = list_latest_windows(connection, device, limit=1)
        ref_id = latest[0]["ref_id"] if latest else b""
        yardstick = self._drift.find_yardstick(connection, ref_id)
        if yardstick is None:
            return None
        since_us = self._drift.now_us - LATE_HOURS * HOUR_US
        rows = list_device_hours_since(connection, device, ref_id, since_us)
        counts = [read_counts(one, yardstick.profile) for one in rows]
        known = [one for one in counts if one is not None]
        return accuracy_document(estimate_late(known, yardstick.profile))

    def _find_in_views(
        self, connection: Connection, device: str, fleet: str
    ) -> tuple[dict[str, Any], bytes] | None:
        """Return a device's document in a large fleet, and its reference profile.

        A view holds the devices that moved most; another one of the fleet is quiet.
        """
        latest = list_latest_windows(connection, device, limit=1)
        for view in list_views(connection, fleet):
            ref_id = bytes(view["ref_id"])
            if not latest or latest[0]["ref_id"] != ref_id:
                continue
            quiet = {"device": device, "status": "quiet", "features": [], "windows": 0}
            devices = view["document"]["devices"]
            found = next((one for one in devices if one["device"] == device), quiet)
            return dict(found), ref_id
        return None

    def _read_large(
        self,
        connection: Connection,
        seen: tuple[dict[str, Any], bytes],
        verdicts: list[dict[str, Any]],
    ) -> dict[str, Any]:
        document, ref_id = seen
        yardstick = self._drift.find_yardstick(connection, ref_id)
        document |= {"verdicts": verdicts, "histograms": [], "histogram_windows": 0}
        document["ref_id"] = ref_id.hex()
        if yardstick is None:
            return document
        counts, windows = self._sum_latest(
            connection, document["device"], yardstick, SLOTS_AN_HOUR
        )
        document["histogram_windows"] = windows
        document["histograms"] = [
            _histogram(yardstick, index, counts)
            for index in range(len(yardstick.profile.features))
        ]
        return document

    def _read_state(
        self, connection: Connection, row: Mapping[str, Any]
    ) -> tuple[DeviceState, Yardstick] | None:
        yardstick = self._drift.find_yardstick(connection, row["ref_id"])
        track = self._drift.read_track(connection, row)
        if yardstick is None or track is None:
            return None
        return track.state, yardstick

    def _device(
        self, device: str, state: DeviceState, yardstick: Yardstick
    ) -> dict[str, Any]:
        shifts, smallest = (
            current_shifts(state, yardstick),
            gates(yardstick, self._parameters),
        )
        e_values = state.cusum.e_values()
        features = [
            {
                "name": one.name,
                "mean_shift_sd": round(float(shifts[0, index]), 3),
                "log_spread_ratio": round(float(shifts[1, index]), 3),
                "mean_gate_sd": round(float(smallest[0, index]), 3),
                "log_spread_gate": round(float(smallest[1, index]), 3),
                "evidence": float(f"{e_values[index]:.3g}"),
            }
            for index, one in enumerate(yardstick.profile.features)
        ]
        learning = state.baseline.units < self._parameters.own_history_units
        return {
            "device": device,
            "ref_id": yardstick.profile.ref_id.hex(),
            "status": "learning" if learning else "quiet",
            "windows": state.windows,
            "units": state.units,
            "own_history_units": state.baseline.units,
            "unit_rows": yardstick.profile.unit_rows,
            "features": features,
        }

    def _live_counts(
        self,
        connection: Connection,
        device: str,
        state: DeviceState,
        yardstick: Yardstick,
    ) -> tuple[Int64, int]:
        """Sum the windows that make the newest units."""
        a_unit = state.windows / max(state.units, 1)
        limit = min(max(round(a_unit * _UNITS_SHOWN), 1), _MOST_WINDOWS)
        return self._sum_latest(connection, device, yardstick, limit)

    def _sum_latest(
        self, connection: Connection, device: str, yardstick: Yardstick, limit: int
    ) -> tuple[Int64, int]:
        profile = yardstick.profile
        counts, windows = np.zeros(profile.layout.size, dtype=np.int64), 0
        for row in list_latest_windows(connection, device, limit=limit):
            if row["ref_id"] != profile.ref_id:
                continue
            try:
                counts += statistics_from_columns(dict(row), profile.layout).counts
            except EdgeError:
                continue
            windows += 1
        return counts, windows


def verdict_document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of ``verdicts`` as JSON values."""
    names = ("id", "device", "subject", "fleet", "kind", "provisional", "opened_us")
    more = ("closed_us", "acked_us", "acked_by")
    return {
        **{name: row[name] for name in (*names, *more)},
        "ref_id": row["ref_id"].hex(),
        "close_reason": row["close_reason"],
        "commands": offer_commands(row),
        **row["evidence"],
    }


def _is_wide(row: Mapping[str, Any], fleet: str | None) -> bool:
    return row["device"] is None and fleet in {None, row["fleet"]}


def _histogram(yardstick: Yardstick, feature: int, counts: Int64) -> dict[str, Any]:
    """Return a feature's reference and live densities over the same bins.

    ``edges`` has one more value than the densities; the ends are the range that the
    reference rows had, and what lies outside is counted in the end bins. A category has
    a bin of width one for each of its ``categories``, and one for all others.
    """
    profile = yardstick.profile
    one = profile.features[feature]
    inner = one.edges.astype(np.float64)
    low = min(one.low, float(inner[0])) if len(inner) else one.low
    high = max(one.high, float(inner[-1])) if len(inner) else one.high
    edges = np.concatenate(([low], inner, [high]))
    named = one.categories
    if named is not None:
        edges = np.arange(one.bins + 1, dtype=np.float64)
    widths = np.maximum(np.diff(edges), 1e-9)
    live = counts[profile.layout.bins(feature)]
    return {
        "feature": one.name,
        "categories": None if named is None else named.tolist(),
        "edges": [float(f"{value:.6g}") for value in edges],
        "reference": _densities(one.counts, widths),
        "live": _densities(live, widths),
        "rows": int(live.sum()),
        "missing": int(counts[profile.layout.missing][feature]),
        "below": int(counts[profile.layout.below][feature]),
        "above": int(counts[profile.layout.above][feature]),
        "repeat": int(counts[profile.layout.repeat][feature]),
    }


def _densities(counts: Int64, widths: Float64) -> list[float]:
    total = max(int(counts.sum()), 1)
    return [float(f"{value:.6g}") for value in counts / total / widths]
