# SPDX-License-Identifier: Apache-2.0
"""How the process and its machine fare, from the kernel's own books.

Owns the reading, by psutil and /sys, and its pace: what was read less than two seconds
ago is not read again. What follows from a reading is ``limits``'s matter.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from edge_agent.clock import Clock
from edge_agent.flow import Readings
from edge_contract.errors import EdgeError

FRESH_US: Final = 2_000_000
_COOLING: Final = "class/thermal"
_SENSORS: Final = ("cpu_thermal", "coretemp", "k10temp", "soc_thermal", "cpu-thermal")


class SystemGauges:
    """The production ``Gauges``; any thread may call it.

    Args:
        state_dir: Whose disk is looked at.
        clock: The time.
        pending: Tells how many messages wait for the server.
        sys: Where the kernel shows devices.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        pending: Callable[[], int],
        sys: Path = Path("/sys"),
    ) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._pending = pending
        self._sys = sys
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self._last: Readings | None = None
        self._last_us = 0
        self._used_seconds = _cpu_seconds()

    def read(self) -> Readings:
        """Return the readings of now, or of two seconds ago; never raises."""
        with self._lock:
            now_us = self._clock.monotonic_us()
            if self._last is None or now_us - self._last_us >= FRESH_US:
                self._last = self._read(now_us)
                self._last_us = now_us
            return self._last

    def _read(self, now_us: int) -> Readings:
        used, before = _cpu_seconds(), self._used_seconds
        elapsed_us = now_us - self._last_us
        permille = None
        if self._last is not None and elapsed_us > 0:
            permille = round((used - before) * 1e9 / elapsed_us)
        self._used_seconds = used
        return Readings(
            queue=self._queue(),
            rss_bytes=self._rss(),
            cpu_permille=permille,
            temperature=read_temperature(),
            is_throttled=self._is_throttled(),
            disk_free_bytes=self._free(),
        )

    def _queue(self) -> int | None:
        try:
            return self._pending()
        except EdgeError:
            return None  # the outbox cannot be read now

    def _rss(self) -> int | None:
        try:
            return int(self._process.memory_info().rss)
        except (psutil.Error, OSError):
            return None

    def _free(self) -> int | None:
        try:
            stat = os.statvfs(self._state_dir)
        except OSError:
            return None
        return stat.f_bavail * stat.f_frsize

    def _is_throttled(self) -> bool | None:
        """Return whether a cooling device of the processor is at work."""
        found = None
        for one in sorted((self._sys / _COOLING).glob("cooling_device*")):
            try:
                if "cpufreq" in (one / "type").read_text():
                    found = bool(int((one / "cur_state").read_text())) or bool(found)
            except (OSError, ValueError):
                continue
        return found


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def read_temperature() -> float | None:
    """Return the processor's temperature in degrees Celsius; the hottest sensor's."""
    try:
        sensors = psutil.sensors_temperatures()
    except (AttributeError, OSError, ValueError):
        return None
    known = [one for name in _SENSORS for one in sensors.get(name, [])]
    found = known or [one for group in sensors.values() for one in group]
    return max((float(one.current) for one in found), default=None)
