# SPDX-License-Identifier: Apache-2.0
"""What a download may take: so many bytes a day, and so many a second.

Owns ``budget.json`` in the state folder, one for all slots. Bytes are paid for before
they are read, in blocks, and what was not read is given back: a kill may cost a block
of the day, but never lets more through than the day has.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from edge_agent.ota.deferral import DaySpentError, Gate
from edge_agent.store import write_atomic

FILE: Final = "budget.json"
BLOCK_BYTES: Final = 1024 * 1024
_FORMAT: Final = 1


class Spending:
    """One download's view of the day's bytes; the production ``fetch.Allowance``.

    Args:
        state_dir: The agent's state folder.
        gate: Whether the update may go on at all.
        is_delta: Whether it is a delta that is fetched.
        sleep: Waits, for the bandwidth.
    """

    def __init__(
        self,
        state_dir: Path,
        gate: Gate,
        *,
        is_delta: bool,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = state_dir / FILE
        self._gate = gate
        self._is_delta = is_delta
        self._sleep = sleep
        self._paid = 0

    def take(self, wanted: int) -> int:
        """Return how many bytes may be read next: from 1 up to ``wanted``.

        Raises:
            DeferredError: The update has to wait.
            OSError: The disk refused.
        """
        if self._paid <= 0:
            self._gate.check_time()
            self._gate.check_link(is_delta=self._is_delta)
            self._paid = self._pay()
        rate = self._gate.terms.bytes_a_second
        return min(wanted, self._paid, max(1, rate or wanted))

    def took(self, count: int) -> None:
        """Hear what was read, and wait for as long as the bandwidth asks."""
        self._paid -= count
        if self._gate.terms.bytes_a_second:
            self._sleep(count / self._gate.terms.bytes_a_second)

    def close(self) -> None:
        """Give back what was paid for and not read."""
        rest, self._paid = self._paid, 0
        if rest > 0 and self._gate.terms.daily_bytes is not None:
            self._write(max(0, self._spent() - rest))

    def _pay(self) -> int:
        limit, spent = self._gate.terms.daily_bytes, self._spent()
        if limit is None:
            return BLOCK_BYTES
        left = BLOCK_BYTES if self._gate.is_now else min(BLOCK_BYTES, limit - spent)
        if left <= 0:
            today = self._now().replace(hour=0, minute=0, second=0, microsecond=0)
            raise DaySpentError(
                f"update: expected at most {limit} bytes a day, found {spent} spent",
                until_us=int((today + timedelta(days=1)).timestamp()) * 1_000_000,
                next_step="it goes on tomorrow (UTC); or raise update.budget",
            )
        self._write(spent + left)
        return left

    def _spent(self) -> int:
        """Return what today has cost; a damaged file costs a day's count, no update."""
        try:
            wire: Any = json.loads(self._path.read_bytes())
            is_today = wire["format"] == _FORMAT and wire["day"] == self._day()
            return max(0, int(wire["bytes"])) if is_today else 0
        except (OSError, ValueError, TypeError, KeyError):
            return 0

    def _write(self, spent: int) -> None:
        wire = {"format": _FORMAT, "day": self._day(), "bytes": spent}
        write_atomic(self._path, json.dumps(wire).encode())

    def _day(self) -> str:
        return self._now().date().isoformat()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._gate.clock.wall_us() / 1e6, UTC)
