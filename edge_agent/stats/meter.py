# SPDX-License-Identifier: Apache-2.0
"""The meter: how the device fares while a window is open.

Owns the readings of the gauges and the time since the last window closed. Latencies are
the accumulator's; the two come together in a window's ``Operations``.
"""

import logging
from typing import Final

from edge_agent.clock import Clock
from edge_agent.errors import AgentError
from edge_agent.flow import Gauges, Readings
from edge_contract.operations import Operations, merge_operations

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_LOG = logging.getLogger(__name__)


class Meter:
    """Sums readings until the window closes.

    Args:
        gauges: Read at each ``sample``; None: only time is told.
        clock: Its monotonic clock.
    """

    def __init__(self, gauges: Gauges | None, clock: Clock) -> None:
        self._gauges = gauges
        self._clock = clock
        self._since_us = clock.monotonic_us()
        self._last = Operations()
        self._sum = Operations()

    @property
    def operations(self) -> Operations:
        """How the device fared since the last ``restart``; no latencies."""
        open_us = self._clock.monotonic_us() - self._since_us
        return merge_operations(self._sum, Operations(elapsed_ms=open_us // 1000))

    def sample(self) -> None:
        """Read the gauges; what cannot be read is not told, and stops no counting."""
        if self._gauges is None:
            return
        try:
            readings = self._gauges.read()
        except (AgentError, OSError) as error:
            _LOG.warning("a gauge cannot be read: %s", error)
            return
        self._last = _to_operations(readings)
        self._sum = merge_operations(self._sum, self._last)

    def restart(self) -> None:
        """Begin another window; the last readings hold until the next."""
        self._since_us = self._clock.monotonic_us()
        self._sum = self._last


def _to_operations(readings: Readings) -> Operations:
    heat = readings.temperature
    return Operations(
        queue=readings.queue,
        rss_kib=_in(_KIB, readings.rss_bytes),
        cpu_permille=readings.cpu_permille,
        temperature=None if heat is None else round(heat),
        is_throttled=readings.is_throttled,
        disk_free_mib=_in(_MIB, readings.disk_free_bytes),
    )


def _in(unit: int, number: int | None) -> int | None:
    return None if number is None else number // unit
