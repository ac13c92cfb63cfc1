# SPDX-License-Identifier: Apache-2.0
"""The ``sensors`` source: what the machine says of itself, through psutil.

Owns which fields there are and their units. What a machine does not have, or does not
tell, is a missing value (NaN), and is said once. Rates are over the time since the row
before; in the first row they are missing.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import psutil

from edge_agent.clock import Clock
from edge_agent.config.sources import SensorsSourceConfig
from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.tally import Tally

POLL_SECONDS: Final = 0.25
STREAM: Final = "sensors"
Probe = Callable[[], float]
_ABSENT: Final = (OSError, AttributeError, TypeError, IndexError, ValueError)


def _hottest(chip: str = "") -> float:
    found = psutil.sensors_temperatures()
    chips = [found[chip]] if chip in found else [] if chip else list(found.values())
    return max((one.current for each in chips for one in each), default=math.nan)


def _busy_percent() -> float:
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    return 100 * busy / (psutil.cpu_count() or 1)


def _battery() -> float:
    found = psutil.sensors_battery()
    return math.nan if found is None else float(found.percent)


# Percent, °C, MHz, and numbers; by name.
LEVELS: Final[Mapping[str, Probe]] = {
    "cpu_mhz": lambda: psutil.cpu_freq().current,
    "load_1": lambda: psutil.getloadavg()[0],
    "load_5": lambda: psutil.getloadavg()[1],
    "load_15": lambda: psutil.getloadavg()[2],
    "memory_percent": lambda: psutil.virtual_memory().percent,
    "swap_percent": lambda: psutil.swap_memory().percent,
    "temperature": _hottest,
    "battery_percent": _battery,
    "processes": lambda: float(len(psutil.pids())),
}
# A second: percent of all processors, bytes, packets, switches between tasks.
RATES: Final[Mapping[str, Probe]] = {
    "cpu_percent": _busy_percent,
    "disk_read": lambda: psutil.disk_io_counters().read_bytes,  # type: ignore[union-attr]
    "disk_write": lambda: psutil.disk_io_counters().write_bytes,  # type: ignore[union-attr]
    "net_receive": lambda: psutil.net_io_counters().bytes_recv,
    "net_send": lambda: psutil.net_io_counters().bytes_sent,
    "net_packets": lambda: psutil.net_io_counters().packets_recv,
    "switches": lambda: psutil.cpu_stats().ctx_switches,
}
DISK: Final = "disk_percent"
CHIP: Final = "temperature:"


class SensorsSource:
    """Reads the chosen fields at an interval.

    Args:
        config: What it was told.
        clock: Stamps rows.

    Raises:
        SourceError: No fields, or one that there is not.
    """

    def __init__(self, config: SensorsSourceConfig, clock: Clock) -> None:
        self._fields = config.fields
        self._probes = [_find_probe(one, config) for one in config.fields]
        if not self._probes:
            raise SourceError("source sensors: expected fields, found none")
        self._period = config.interval.seconds
        self._clock = clock
        self._tally = Tally("source sensors")
        self._before: dict[str, float] = {}
        self._read_at = 0.0
        self._due = time.monotonic()
        self._is_first = True
        self._closed = threading.Event()

    @property
    def features(self) -> int | None:
        """How many fields there are."""
        return len(self._fields)

    @property
    def is_exhausted(self) -> bool:
        """Never."""
        return False

    @property
    def account(self) -> Mapping[str, int | str]:
        """Rows taken and values missing."""
        return self._tally.account

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next row when it is due; see ``Source.read``.

        Raises:
            SourceError: The model takes another number of values.
        """
        if grid.features != len(self._fields):
            msg = (
                f"source sensors: expected rows of {grid.features} values, found "
                f"{len(self._fields)} fields"
            )
            raise SourceError(msg, next_step="list the fields that the model knows")
        early = self._due - time.monotonic()
        if self._closed.wait(max(0.0, min(early, POLL_SECONDS))):
            return None
        now = time.monotonic()
        if now < self._due:
            return None
        self._due = max(self._due + self._period, now)  # what was missed stays missed
        values = self._measure(now)
        self._tally.count("taken")
        is_start, self._is_first = self._is_first, False
        times = np.array([self._clock.wall_us()], dtype=np.int64)
        rows = np.array([values], dtype=np.float32)
        return Chunk(STREAM, rows, times, is_start)

    def close(self) -> None:
        """Wake up a waiting ``read``."""
        self._closed.set()

    def _measure(self, now: float) -> list[float]:
        passed, self._read_at = now - self._read_at, now
        values = []
        for name, (probe, is_rate) in zip(self._fields, self._probes, strict=True):
            value = self._ask(name, probe)
            if is_rate:
                before, self._before[name] = self._before.get(name, math.nan), value
                value = (value - before) / passed
            values.append(value)
        return values

    def _ask(self, name: str, probe: Probe) -> float:
        try:
            value = float(probe())
        except _ABSENT as error:
            self._tally.complain(f"missing {name}", f"{name}: {error}")
            return math.nan
        if math.isnan(value):
            self._tally.complain(f"missing {name}", f"{name}: not on this machine")
        return value


def _find_probe(name: str, config: SensorsSourceConfig) -> tuple[Probe, bool]:
    """Return how a field is asked for, and whether it is a rate."""
    if name in LEVELS:
        return LEVELS[name], False
    if name in RATES:
        return RATES[name], True
    if name == DISK:
        folder = str(config.disk)
        return lambda: psutil.disk_usage(folder).percent, False
    if name.startswith(CHIP):
        chip = name.removeprefix(CHIP)
        return lambda: _hottest(chip), False
    known = ", ".join([*LEVELS, *RATES, DISK, f"{CHIP}CHIP"])
    msg = f"source sensors: expected fields of {known}; found {name!r}"
    raise SourceError(msg, next_step="correct source.fields")
