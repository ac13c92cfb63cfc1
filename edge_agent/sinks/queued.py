# SPDX-License-Identifier: Apache-2.0
"""A queue and a thread before every sink, so that none of them can stop inference.

Owns what waits, what is dropped, and when an outlet that failed is tried again. What an
outlet is, and how it writes, is its own matter. Inference pays for one append.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from random import Random, SystemRandom
from typing import Final, Protocol

from edge_agent.errors import SinkError, SinkRefusedError
from edge_agent.flow import Result
from edge_agent.retry import retry_delay_seconds
from edge_agent.tally import Tally

FLUSH_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 30.0
BATCH: Final = 256
_LOG = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where results really go; called on one thread, which it may block."""

    def put(self, results: Sequence[Result]) -> int:
        """Write results, and return how many of the first were taken, at least 1.

        Raises:
            SinkError: None was taken; they are offered again.
            SinkRefusedError: None will ever be taken; they are dropped.
        """

    def close(self) -> None:
        """Let go of what the outlet holds."""


class QueuedSink:
    """Hands results to an outlet in a thread of its own; ``write`` never fails.

    Args:
        name: What to call the sink in messages.
        outlet: Taken over.
        queue: How many results wait at most; then the oldest is dropped.
        batch: How many are handed over at once, at most.
        random: Jitters the pauses.
    """

    def __init__(
        self,
        name: str,
        outlet: Outlet,
        queue: int,
        *,
        batch: int = BATCH,
        random: Random | None = None,
    ) -> None:
        self.name = name
        self._outlet = outlet
        self._batch = min(batch, queue)  # a full queue is worth a look too
        self._random = random or SystemRandom()
        self._queue: deque[Result] = deque(maxlen=queue)
        self._pending: list[Result] = []
        self._tally = Tally(f"sink {name}")
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def account(self) -> Mapping[str, int | str]:
        """What waits, was taken, was dropped, and the last problem."""
        waiting = len(self._queue) + len(self._pending)
        return {"queue": waiting, "taken": 0, "dropped": 0, **self._tally.account}

    def write(self, result: Result) -> None:
        """Take one result; see ``Sink.write``. It raises nothing."""
        queue = self._queue
        if len(queue) == queue.maxlen:
            self._tally.complain("dropped", "results come faster than they are taken")
        queue.append(result)
        if len(queue) >= self._batch:
            self._wake.set()

    def flush(self) -> None:
        """Have the thread look at once; waits for nothing."""
        self._wake.set()

    def close(self) -> None:
        """Give the outlet a few seconds for what waits, then give up the rest."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        left = len(self._queue) + len(self._pending)
        if left:
            self._tally.count("dropped", left)
            _LOG.warning("sink %s: %d results were not written", self.name, left)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()
                self._drain()
            self._drain()
        finally:
            self._outlet.close()

    def _drain(self) -> None:
        failures = 0
        while self._pending or self._queue:
            if not self._pending:
                self._pending = self._take_batch()
            try:
                taken = self._outlet.put(self._pending)
            except SinkRefusedError as error:
                self._tally.complain("refused", error)
                self._tally.count("dropped", len(self._pending))
                self._pending = []
            except SinkError as error:
                failures += 1
                self._tally.complain("failures", error)
                pause = retry_delay_seconds(
                    failures, LONGEST_PAUSE_SECONDS, self._random
                )
                if self._closing.wait(pause):
                    return
            else:
                failures = 0
                self._tally.count("taken", taken)
                self._pending = self._pending[taken:]

    def _take_batch(self) -> list[Result]:
        found: list[Result] = []
        while self._queue and len(found) < self._batch:
            try:
                found.append(self._queue.popleft())
            except IndexError:  # dropped meanwhile, to make room
                break
        return found
