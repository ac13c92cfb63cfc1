# SPDX-License-Identifier: Apache-2.0
"""A slot's sensors: the rules of ``stats.rules`` looked at once a second.

Owns the events ``sensor_fault`` and ``sensor_ok`` and sensors.json in the slot's
folder, where open faults outlive a restart: each is told once. The event goes first: a
power cut in between tells it twice, never not at all.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from edge_agent.config import SlotConfig
from edge_agent.config.sources import SensorsSourceConfig
from edge_agent.daemon.reports import Reporter
from edge_agent.stats.rules import RATE, Change, Fault, Seen, SensorWatch, by_key
from edge_agent.store import write_atomic

LOOK_US: Final = 1_000_000
_FILE: Final = "sensors.json"
_LOG = logging.getLogger(__name__)


class Sensors:
    """Watches what one slot sees.

    Args:
        slot: The slot's name.
        folder: Of the slot.
        seen: Returns what the release that serves has seen.
        rows_per_second: What the source promised; None: nothing.
        reporter: Tells of faults.
    """

    def __init__(
        self,
        slot: str,
        folder: Path,
        seen: Callable[[], Seen | None],
        rows_per_second: float | None,
        reporter: Reporter,
    ) -> None:
        self._slot = slot
        self._path = folder / _FILE
        self._seen = seen
        self._reporter = reporter
        self._watch = SensorWatch(rows_per_second, by_key(load_faults(self._path)))
        self._next_us = 0

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The faults that are open, for the status."""
        return [asdict(one) for one in self._watch.faults.values()]

    def look(self, now_us: int) -> None:
        """Look once a second, by a clock that never goes back."""
        if now_us < self._next_us:
            return
        self._next_us = now_us + LOOK_US
        seen = self._seen()
        changes = [] if seen is None else self._watch.look(seen, now_us)
        for change in changes:
            self._tell(change)
        if changes:
            self._save()

    def _tell(self, change: Change) -> None:
        fault = change.fault
        fields = {"slot": self._slot, **asdict(fault)}
        percent = fault.share_ppm / 10_000
        if fault.rule == RATE:
            detail = f"{percent:.3g} % of the promised rows came"
        else:
            what = fault.rule.replace("_", " ")
            detail = f"{fault.feature}: {percent:.3g} % of {fault.rows} rows {what}"
        if change.is_over:
            self._reporter.event("sensor_ok", "info", detail, fields)
        else:
            self._reporter.event("sensor_fault", "error", detail, fields)

    def _save(self) -> None:
        try:
            write_atomic(self._path, json.dumps(self.faults).encode())
        except OSError as error:
            _LOG.warning("open faults are not kept: %s", error)


def promised_rate(told: SlotConfig) -> float | None:
    """Return the rows a second that a slot's source should bring, if anybody says."""
    if told.rows_per_second is None and isinstance(told.source, SensorsSourceConfig):
        return 1 / told.source.interval.seconds
    return told.rows_per_second


def load_faults(path: Path) -> list[Fault]:
    """Return the faults that were open; none where the file is damaged."""
    try:
        return [
            Fault(
                str(one["feature"]),
                str(one["rule"]),
                int(one["share_ppm"]),
                int(one["rows"]),
            )
            for one in json.loads(path.read_bytes())
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("%s: cannot be read, taken as empty: %s", path, error)
        return []
