# SPDX-License-Identifier: Apache-2.0
"""When to acknowledge: at most once an interval a device.

Owns which streams wait for an ack and since when. Pure but for its memory; a restart
may forget it, because a device sends again what is not acknowledged.
"""

import threading
from collections.abc import Iterable

from fleet.ingest.marks_store import Stream

MAX_STREAMS_PER_ACK = 16


class AckSchedule:
    """Streams that wait for an ack; safe to share between threads.

    Args:
        interval_seconds: Least time between two acks to one device.
    """

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[bytes, None]] = {}
        self._last_sent: dict[str, float] = {}

    def note(self, touched: Iterable[Stream]) -> None:
        """Note that messages of these streams were committed."""
        with self._lock:
            for device, boot_id in touched:
                self._waiting.setdefault(device, {})[boot_id] = None

    def take_due(self, now_seconds: float) -> dict[str, list[bytes]]:
        """Return the devices whose ack is due, with the boot ids to name.

        Args:
            now_seconds: A clock that never goes back.
        """
        due: dict[str, list[bytes]] = {}
        with self._lock:
            for device in list(self._waiting):
                last = self._last_sent.get(device)
                if last is not None and now_seconds - last < self._interval:
                    continue
                boot_ids = list(self._waiting.pop(device))
                due[device] = boot_ids[:MAX_STREAMS_PER_ACK]
                rest = boot_ids[MAX_STREAMS_PER_ACK:]
                if rest:
                    self._waiting[device] = dict.fromkeys(rest)
                self._last_sent[device] = now_seconds
        return due
