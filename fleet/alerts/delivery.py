# SPDX-License-Identifier: Apache-2.0
"""Working off the queue of one channel: at least once, with full jitter.

Owns when an event is tried again and when it is given up. Each channel has its own
worker and thread: one that hangs holds no other, and never the engine. A kill between
sending and noting it sends again; receivers tell by the event's ``id``.
"""

import logging
import random
from typing import Any, Final

from sqlalchemy import Engine

from fleet.alerts.channels.channel import Channel, DeliveryError
from fleet.services import Clock
from fleet.store.alerts import list_due_deliveries, update_delivery
from fleet.store.engine import reading, writing

_LOG = logging.getLogger(__name__)
_SECOND_US: Final = 1_000_000
_BASE_SECONDS: Final = 5.0
_LONGEST_SECONDS: Final = 3600.0
_KEPT_SECONDS: Final = 3 * 86_400
_MOST_ERROR: Final = 300


def backoff_seconds(attempts: int, share: float) -> float:
    """Return how long to wait after so many failed attempts.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015).

    Args:
        attempts: At least 1.
        share: Uniform in [0, 1).

    >>> [backoff_seconds(n, 0.5) for n in (1, 2, 3, 60)]
    [2.5, 5.0, 10.0, 1800.0]
    """
    # 2**10 is far above the longest; a larger power would overflow a float.
    most = min(_LONGEST_SECONDS, _BASE_SECONDS * 2.0 ** min(attempts - 1, 10))
    return most * share


class DeliveryWorker:
    """Sends what waits for one channel.

    Args:
        engine: The database.
        clock: The time.
        channel: The way.
        jitter: Gives uniform numbers in [0, 1).
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        channel: Channel,
        jitter: random.Random | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._channel = channel
        self._jitter = jitter or random.SystemRandom()

    def run(self) -> None:
        """Send one batch of what is due; note how it went."""
        now_us = self._clock.wall_us()
        with reading(self._engine) as connection:
            due = list_due_deliveries(
                connection, self._channel.name, now_us, limit=self._channel.batch
            )
        if not due:
            return
        error = ""
        try:
            self._channel.send([one["body"] for one in due])
        except DeliveryError as failure:
            error = failure.message
            _LOG.warning("%s", failure)
        after_us = self._clock.wall_us()
        with writing(self._engine) as connection:
            for one in due:
                update_delivery(connection, one["id"], self._note(one, error, after_us))

    def _note(self, row: dict[str, Any], error: str, now_us: int) -> dict[str, Any]:
        attempts = row["attempts"] + 1
        values: dict[str, Any] = {"attempts": attempts, "error": error[:_MOST_ERROR]}
        if not error:
            return values | {"done_us": now_us, "outcome": "sent"}
        if now_us - row["created_us"] > _KEPT_SECONDS * _SECOND_US:
            return values | {"done_us": now_us, "outcome": "expired"}
        wait = backoff_seconds(attempts, self._jitter.random())
        return values | {"next_us": now_us + int(wait * _SECOND_US)}
