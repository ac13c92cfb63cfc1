# SPDX-License-Identifier: Apache-2.0
"""Devices as the database sees them: what ingest writes when real ones report."""

from dataclasses import dataclass, field

from sqlalchemy import Engine, insert, update

from fleet.services import Clock
from fleet.store.engine import writing
from fleet.store.tables import devices, presence, update_reports


@dataclass
class RecordedFleet:
    """Writes devices, heartbeats and update reports into a database."""

    engine: Engine
    clock: Clock
    _seq: int = field(default=0, init=False)

    def add(self, *names: str, fleet: str = "default", **tags: str) -> None:
        """Enrol devices that were just heard of."""
        now_us = self.clock.wall_us()
        with writing(self.engine) as connection:
            for name in names:
                connection.execute(
                    insert(devices).values(
                        id=name, fleet=fleet, epoch=1, tags=tags, created_us=now_us
                    )
                )
                connection.execute(
                    insert(presence).values(
                        device=name,
                        last_seen_us=now_us,
                        online_hint=True,
                        state_time_us=now_us,
                        serving={},
                    )
                )

    def report(self, device: str, state: str, digest: str, **body: object) -> None:
        """Record an update report; ``serving`` is the digest from COMMITTED on."""
        self._seq += 1
        now_us = self.clock.wall_us()
        serving = digest if state == "COMMITTED" else ""
        with writing(self.engine) as connection:
            connection.execute(
                insert(update_reports).values(
                    device=device,
                    boot_id=bytes(8),
                    seq=self._seq,
                    received_us=now_us,
                    digest=digest,
                    state=state,
                    body={
                        "slot": "main",
                        "time_us": now_us,
                        "serving": serving,
                        "reason": "",
                    }
                    | body,
                )
            )

    def heartbeat(self, device: str, digest: str) -> None:
        """Record what a device says that it serves."""
        now_us = self.clock.wall_us()
        with writing(self.engine) as connection:
            connection.execute(
                update(presence)
                .where(presence.c.device == device)
                .values(
                    serving={"main": digest}, state_time_us=now_us, last_seen_us=now_us
                )
            )
