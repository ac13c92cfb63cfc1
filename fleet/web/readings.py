# SPDX-License-Identifier: Apache-2.0
"""What the pages show, read from the store as plain documents.

Owns the joining of devices, models, rollouts and drift for the dashboard. Blocking:
pages call it in a worker thread. It changes nothing.
"""

from collections import Counter
from typing import Any

import numpy as np
from sqlalchemy import Connection

from fleet.drift.documents import DriftDocuments
from fleet.services import Services
from fleet.store.alerts import list_alert_mutes, list_alerts
from fleet.store.devices import find_device, list_devices, list_update_reports
from fleet.store.engine import reading
from fleet.store.profiles import ProfileCache
from fleet.store.releases import list_latest_rollouts, list_model_names
from fleet.store.windows import find_totals, list_latest_windows

_ROLLOUTS_SHOWN = 5
_ROLLOUTS_LISTED = 20
_REPORTS_SHOWN = 20
_WINDOWS_SHOWN = 240
_SMOOTHING = 7  # windows; the line between them shows the unit, not the noise
_ALERTS_SHOWN = 200
_SECOND_US = 1_000_000
_TOTALS = ("windows", "inferences", "rows", "failed", "lost", "bytes")


class Readings:
    """Reads documents for pages.

    Args:
        services: The database and the clock.
        drift: The reader of drift documents.
    """

    def __init__(self, services: Services, drift: DriftDocuments) -> None:
        self._services = services
        self._drift = drift
        self._profiles = ProfileCache()

    def read_overview(self) -> dict[str, Any]:
        """Return everything that the overview shows."""
        now_us = self._services.clock.wall_us()
        with reading(self._services.engine) as connection:
            drift = self._drift.read_fleet(connection)
            names = list_model_names(connection)
            devices = self._list(connection, names, drift, now_us)
            rollouts = list_latest_rollouts(connection, limit=_ROLLOUTS_SHOWN)
            alerts = _read_alerts(connection, closed=False)
        for one in rollouts:
            one["model"] = names.get(one["digest"], one["digest"][:12])
        return {
            "devices": devices,
            "alerts": alerts,
            "online": sum(one["online"] for one in devices),
            "totals": {name: sum(one[name] for one in devices) for name in _TOTALS},
            "mix": Counter(one["model"] for one in devices).most_common(),
            "rollouts": rollouts,
            "drift": drift,
        }

    def read_rollouts(self) -> list[dict[str, Any]]:
        """Return the latest rollouts with their phases and gates."""
        with reading(self._services.engine) as connection:
            names = list_model_names(connection)
            found = list_latest_rollouts(connection, limit=_ROLLOUTS_LISTED)
        for one in found:
            one["model"] = names.get(one["digest"], one["digest"][:12])
        return found

    def read_drift(self) -> dict[str, Any]:
        """Return scope, verdicts and features x devices."""
        with reading(self._services.engine) as connection:
            return self._drift.read_fleet(connection)

    def read_alerts(self) -> dict[str, Any]:
        """Return open alerts, the latest closed ones, and mutes that hold."""
        with reading(self._services.engine) as connection:
            every = _read_alerts(connection, closed=True)
            now_us = self._services.clock.wall_us()
            return {
                "open": _read_alerts(connection, closed=False),
                "closed": [one for one in every if one["closed_us"] is not None],
                "mutes": list(list_alert_mutes(connection, now_us)),
            }

    def read_histograms(self, device: str) -> dict[str, Any]:
        """Return one device's drift document.

        Raises:
            NotFoundError: No device has this id.
        """
        with reading(self._services.engine) as connection:
            return self._drift.read_device(connection, device)

    def read_device(self, device: str) -> dict[str, Any]:
        """Return everything that a device's page shows.

        Raises:
            NotFoundError: No device has this id.
        """
        now_us = self._services.clock.wall_us()
        with reading(self._services.engine) as connection:
            row = find_device(connection, device)
            names = list_model_names(connection)
            document = self._device(connection, dict(row), names, now_us)
            document["tags"] = dict(row["tags"] or {})
            document["birth"] = row["birth"] or {}
            reports = list_update_reports(connection, device, limit=_REPORTS_SHOWN)
            document["updates"] = [
                {
                    "received_us": one["received_us"],
                    "model": names.get(one["digest"], one["digest"][:12] or "-"),
                    "state": one["state"],
                    "reason": str(one["body"].get("reason", "")),
                }
                for one in reports
            ]
            document["drift"] = self._drift.read_device(connection, device)
            document["history"] = self._history(connection, device)
        return document

    def _list(
        self,
        connection: Connection,
        names: dict[str, str],
        drift: dict[str, Any],
        now_us: int,
    ) -> list[dict[str, Any]]:
        states = {one["device"]: one for one in drift["devices"]}
        found = []
        for row in list_devices(connection):
            document = self._device(connection, dict(row), names, now_us)
            state = states.get(document["id"])
            # A large fleet's document holds the devices that moved most.
            is_quiet = drift["counted"] and document["windows"]
            other = "quiet" if is_quiet else "no windows yet"
            document["drift_status"] = state["status"] if state else other
            found.append(document)
        return found

    def _device(
        self,
        connection: Connection,
        row: dict[str, Any],
        names: dict[str, str],
        now_us: int,
    ) -> dict[str, Any]:
        totals = find_totals(connection, row["id"])
        serving = list((row["serving"] or {}).values())
        model = names.get(serving[0], serving[0][:12]) if serving else "no model"
        seen = row["last_seen_us"] or 0
        limits = self._services.config.alerts.limits
        silent_us = int(limits.silent_seconds * _SECOND_US)
        return {
            "id": row["id"],
            "fleet": row["fleet"],
            "last_seen_us": row["last_seen_us"],
            "online": bool(row["online_hint"]) and seen > now_us - silent_us,
            "model": model,
            "digest": serving[0] if serving else "",
            **{name: int(totals[name]) if totals else 0 for name in _TOTALS},
        }

    def _history(self, connection: Connection, device: str) -> dict[str, Any]:
        """Return the smoothed mean of each feature, in reference sd, over windows."""
        rows = list_latest_windows(connection, device, limit=_WINDOWS_SHOWN)[::-1]
        if not rows:
            return {"features": {}, "windows": 0}
        profile = self._profiles.find(connection, rows[-1]["ref_id"])
        rows = [one for one in rows if one["ref_id"] == rows[-1]["ref_id"]]
        if profile is None:
            return {"features": {}, "windows": 0}
        width = len(profile.features)
        blobs = [np.frombuffer(one["mean"], "<f8") for one in rows]
        means = np.stack([one for one in blobs if len(one) == width])
        centre = np.array([one.mean for one in profile.features])
        spread = np.array([one.sd or 1.0 for one in profile.features])
        values = (means - centre) / spread
        smooth = np.stack(
            [
                values[max(0, end - _SMOOTHING) : end].mean(axis=0)
                for end in range(1, len(values) + 1)
            ]
        )
        return {
            "windows": len(rows),
            "features": {
                one.name: [round(float(value), 3) for value in smooth[:, index]]
                for index, one in enumerate(profile.features)
            },
        }


def _read_alerts(connection: Connection, *, closed: bool) -> list[dict[str, Any]]:
    """Return alerts, serious ones first, else the latest first."""
    rows = list_alerts(connection, None, limit=_ALERTS_SHOWN, closed=closed)
    return sorted(map(dict, rows), key=lambda one: one["level"] != "serious")
