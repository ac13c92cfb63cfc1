# SPDX-License-Identifier: Apache-2.0
"""Publishing rules: which outbox rows go out next, and when one goes out again.

Owns the state of one connection: what was sent, what the broker took, what is due
again. Pure: the caller passes the time and the rows, and does the sending. What is held
is the outbox's matter.

A row is sent in the order (lane, seq). The broker's PUBACK frees a place in flight and
means nothing more; only the server's ack ends a row. Without one, a row is due again
after two minutes, doubling to an hour, each jittered; after a reconnect all are due.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

MAX_IN_FLIGHT: Final = 16
URGENT_LANE: Final = 0
BULK_LANE: Final = 1
LANES: Final = (URGENT_LANE, BULK_LANE)
_SECOND_US = 1_000_000
FIRST_RESEND_US: Final = 120 * _SECOND_US
MAX_RESEND_US: Final = 3600 * _SECOND_US
MAX_PUBACK_US: Final = 60 * _SECOND_US
_JITTER = (0.75, 1.25)


def resend_delay_us(attempt: int, random: Random) -> int:
    """Return how long to wait for an ack after sending for the ``attempt``-th time.

    >>> 90 <= resend_delay_us(1, Random(1)) / 1e6 <= 150
    True
    """
    base = min(FIRST_RESEND_US << min(attempt - 1, 16), MAX_RESEND_US)
    return int(base * random.uniform(*_JITTER))


def reconnect_delay_seconds(failures: int, random: Random) -> float:
    """Return the pause before the next connection: full jitter, 1 to 60 s.

    >>> all(1 <= reconnect_delay_seconds(n, Random(n)) <= 60 for n in range(99))
    True
    """
    return max(1.0, random.uniform(0.0, min(60.0, 2.0 ** min(failures, 6))))


@dataclass
class Publisher:
    """What one connection has sent.

    Args:
        random: Source of jitter.
        limit: Most rows between publish and PUBACK.
    """

    random: Random
    limit: int = MAX_IN_FLIGHT
    _in_flight: dict[int, int] = field(default_factory=dict)  # seq: sent at, us
    _attempts: dict[int, int] = field(default_factory=dict)
    _due: list[tuple[int, int]] = field(default_factory=list)  # heap of (us, seq)
    _cursors: dict[int, int] = field(default_factory=lambda: dict.fromkeys(LANES, 0))

    @property
    def room(self) -> int:
        """How many rows may be sent now."""
        return max(0, self.limit - len(self._in_flight))

    def cursor(self, lane: int) -> int:
        """Return the highest seq of ``lane`` that this connection has sent."""
        return self._cursors[lane]

    def restart(self) -> None:
        """Begin a connection: every row that is still held is due."""
        self._in_flight.clear()
        self._due.clear()
        self._cursors = dict.fromkeys(LANES, 0)

    def due(self, now_us: int) -> list[int]:
        """Return the rows to send again now, as many as there is room for.

        They stay due until ``sent`` or ``ended`` names them.
        """
        while self._due and self._due[0][1] not in self._attempts:
            heapq.heappop(self._due)
        ready = [seq for at_us, seq in self._due if at_us <= now_us]
        held = (seq for seq in ready if seq in self._attempts)
        return sorted(seq for seq in held if seq not in self._in_flight)[: self.room]

    def next_due_us(self) -> int | None:
        """Return when ``due`` or ``is_stalled`` can next change by itself, or None."""
        times = [at_us for at_us, _ in self._due[:1]]
        times += [sent + MAX_PUBACK_US for sent in self._in_flight.values()]
        return min(times, default=None)

    def sent(self, lane: int, seq: int, now_us: int) -> None:
        """Note that a row was handed to the transport."""
        attempt = self._attempts.get(seq, 0) + 1
        self._attempts[seq] = attempt
        self._in_flight[seq] = now_us
        self._due = [entry for entry in self._due if entry[1] != seq]
        heapq.heapify(self._due)
        heapq.heappush(self._due, (now_us + resend_delay_us(attempt, self.random), seq))
        self._cursors[lane] = max(self._cursors[lane], seq)

    def taken(self, seq: int) -> None:
        """Note the broker's PUBACK, whatever it said: the place in flight is free."""
        self._in_flight.pop(seq, None)

    def ended(self, seqs: Iterable[int]) -> None:
        """Forget rows that the server has acknowledged."""
        for seq in seqs:
            self._in_flight.pop(seq, None)
            self._attempts.pop(seq, None)

    def is_stalled(self, now_us: int) -> bool:
        """Whether the broker owes a PUBACK for too long; only a reconnect helps."""
        return any(now_us - sent >= MAX_PUBACK_US for sent in self._in_flight.values())
