# SPDX-License-Identifier: Apache-2.0
"""Wiring of ingest into the server.

Owns what happens after a commit: acks are scheduled and births passed on. The broker
is reached through what ``app`` connects to ``Inlet.take``.
"""

from collections.abc import Callable, Mapping, Sequence

from fleet.auth.keyring import KeyRing
from fleet.ingest.acks import AckSchedule
from fleet.ingest.marks_store import read_marks
from fleet.ingest.recorder import Outcome
from fleet.ingest.writer import Incoming, IngestWriter
from fleet.services import Feature, PeriodicTask, Services
from fleet.store.engine import reading

AckMark = tuple[bytes, int, bytes]
SendAcks = Callable[[dict[str, tuple[AckMark, ...]]], None]
_SHORTEST_TICK_SECONDS = 0.05
_LONGEST_TICK_SECONDS = 1.0


class Inlet:
    """Ingest as the rest of the server sees it.

    Args:
        services: What it is built from.
        ring: The keys of the devices.
        send_acks: Sends acks, a device with its marks.
        greet: Sends a device that was born all that is meant for it.
    """

    def __init__(
        self,
        services: Services,
        ring: KeyRing,
        send_acks: SendAcks,
        greet: Callable[[str], None],
    ) -> None:
        config = services.config.ingest
        self._services = services
        self._send_acks = send_acks
        self._greet = greet
        self._schedule = AckSchedule(config.ack_interval_seconds)
        self._writer = IngestWriter(
            services.engine, ring, services.clock, config, self._after_commit
        )

    def take(self, topic: str, payload: bytes, confirm: Callable[[], None]) -> None:
        """Take one message from the broker."""
        self._writer.take(Incoming(topic, payload, confirm))

    def feature(self) -> Feature:
        """Return ingest as a feature."""
        interval = self._services.config.ingest.ack_interval_seconds
        tick = min(_LONGEST_TICK_SECONDS, max(_SHORTEST_TICK_SECONDS, interval / 4))
        return Feature(
            name="ingest",
            tasks=(PeriodicTask("acks", tick, self.send_due_acks),),
            start=self._writer.start,
            stop=self._writer.stop,
        )

    def send_due_acks(self) -> None:
        """Send the acks that are due, computed from the committed marks.

        Those that cannot be sent now are due again an interval later.
        """
        due = self._schedule.take_due(self._services.clock.monotonic_seconds())
        if not due:
            return
        is_sent = False
        try:
            self._send_acks(self._read_acks(due))
            is_sent = True
        finally:
            if not is_sent:
                self._schedule.note((one, boot) for one in due for boot in due[one])

    def _read_acks(
        self, due: Mapping[str, Sequence[bytes]]
    ) -> dict[str, tuple[AckMark, ...]]:
        acks: dict[str, tuple[AckMark, ...]] = {}
        with reading(self._services.engine) as connection:
            for device, boot_ids in due.items():
                found = [(b, read_marks(connection, (device, b))) for b in boot_ids]
                acks[device] = tuple(
                    (boot_id, marks.mark, marks.bitmap())
                    for boot_id, marks in found
                    if marks is not None
                )
        return acks

    def _after_commit(self, outcome: Outcome) -> None:
        self._schedule.note(outcome.touched)
        for device in outcome.births:
            self._greet(device)
