# SPDX-License-Identifier: Apache-2.0
"""Totals of devices and counts of refusals, added up over a batch.

Owns writing the table ``totals``.
"""

from collections import Counter

from sqlalchemy import Connection, insert, select, update

from fleet.store.refusals import add_refusals
from fleet.store.tables import totals

_TOTALS = ("windows", "inferences", "rows", "failed", "lost", "duplicates", "bytes")


class Tally:
    """What a batch adds to the totals."""

    def __init__(self) -> None:
        self._totals: dict[str, Counter[str]] = {}
        self._refused: Counter[tuple[str, str]] = Counter()

    def device(self, device: str) -> Counter[str]:
        """Return the counter of one device, to be added to."""
        return self._totals.setdefault(device, Counter())

    def refuse(self, reason: str, device: str) -> None:
        """Count one refusal; ``device`` is empty when it is not known."""
        self._refused[reason, device] += 1

    def flush(self, connection: Connection, now_us: int) -> None:
        """Add all to the tables."""
        for device, added in self._totals.items():
            row = totals.c.device == device
            if connection.execute(select(totals.c.device).where(row)).first() is None:
                zeros = dict.fromkeys(_TOTALS, 0)
                connection.execute(insert(totals).values(device=device, **zeros))
            sums = {name: totals.c[name] + count for name, count in added.items()}
            if sums:
                connection.execute(update(totals).where(row).values(sums))
        for (reason, device), count in self._refused.items():
            add_refusals(connection, reason, device, count, now_us)
