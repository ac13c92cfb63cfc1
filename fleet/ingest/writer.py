# SPDX-License-Identifier: Apache-2.0
"""The one thread that writes messages into the database, many in one transaction.

Owns the group commit: what came within the delay, up to the batch size, is committed
together; only then are the broker's messages confirmed and acks scheduled. A batch
that fails is tried message by message, so that one odd message harms no other.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from edge_contract.errors import EdgeError
from fleet.auth.keyring import KeyRing
from fleet.config import IngestConfig
from fleet.ingest.door import RefusedMessageError, open_message
from fleet.ingest.recorder import Outcome, Recorder
from fleet.services import Clock
from fleet.store.engine import writing
from fleet.store.profiles import ProfileCache

_LOG = logging.getLogger(__name__)
_QUEUE_LIMIT = 4096
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker; ``confirm`` tells the broker that it is done."""

    topic: str
    payload: bytes
    confirm: Callable[[], None]


class IngestWriter:
    """Takes messages from any thread and commits them in one.

    Args:
        engine: The database.
        ring: The keys of the devices.
        clock: The time of receipt.
        config: Batch size and delay.
        on_commit: Called after each commit, in the writer's thread.
    """

    def __init__(
        self,
        engine: Engine,
        ring: KeyRing,
        clock: Clock,
        config: IngestConfig,
        on_commit: Callable[[Outcome], None],
    ) -> None:
        self._engine = engine
        self._ring = ring
        self._clock = clock
        self._config = config
        self._on_commit = on_commit
        self._profiles = ProfileCache()
        self._queue: queue.Queue[Incoming | None] = queue.Queue(_QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._run, name="ingest")
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what was taken, then end the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    def take(self, incoming: Incoming) -> None:
        """Take one message; blocks while the queue is full."""
        self._queue.put(incoming)

    def write(self, batch: Sequence[Incoming]) -> None:
        """Commit ``batch``, confirm it and tell what follows.

        Raises:
            SQLAlchemyError: The database refuses even single messages (a full disk);
                nothing of what failed was confirmed.
        """
        try:
            outcome = self._commit(batch)
        except (SQLAlchemyError, EdgeError) as error:
            if len(batch) == 1:
                raise
            _LOG.warning(
                "ingest: batch of %d failed, one by one: %s", len(batch), error
            )
            for one in batch:
                self.write([one])
            return
        for one in batch:
            one.confirm()
        self._on_commit(outcome)

    def _commit(self, batch: Sequence[Incoming]) -> Outcome:
        with writing(self._engine) as connection:
            recorder = Recorder(connection, self._profiles, self._clock.wall_us())
            for one in batch:
                try:
                    accepted = open_message(
                        connection, self._ring, one.topic, one.payload
                    )
                except RefusedMessageError as refusal:
                    _LOG.warning("ingest: %s", refusal.message)
                    recorder.tally.refuse(refusal.reason, refusal.device)
                else:
                    recorder.record(accepted)
            return recorder.finish()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._gather()
            while batch:
                try:
                    self.write(batch)
                    break
                except SQLAlchemyError:
                    # Not confirmed and not marked: broker and device send it again.
                    _LOG.exception("ingest: the database refuses %d", len(batch))
                    if ended or self._stopping.wait(_RETRY_SECONDS):
                        break
                except EdgeError as error:
                    _LOG.error("ingest: message dropped: %s", error)
                    break

    def _gather(self) -> tuple[list[Incoming], bool]:
        """Return the next batch, and whether it is the last."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch, end = [first], time.monotonic() + self._config.delay_seconds
        while len(batch) < self._config.batch:
            try:
                one = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if one is None:
                return batch, True
            batch.append(one)
        return batch, False
