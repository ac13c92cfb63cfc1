# SPDX-License-Identifier: Apache-2.0
"""A device that serves a good release, for attacks on what it would install next.

The check is the program's own, in its subprocess; what it tells goes through the
daemon's wiring into a real outbox, where a test reads what the server would hear.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.clock import SystemClock
from edge_agent.daemon.reports import Reporter
from edge_agent.ota.machine import Journal, UpdateState, build_report
from edge_agent.ota.slots import Pointers, Slots, open_slot
from edge_agent.ota.updater import JOURNAL_NAME, Updater
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.publisher import URGENT_LANE
from edge_contract.enrolment import Enrolment
from edge_contract.messages import Event, UpdateReport, decode_up
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.faulty_server import FaultyServer
from tests.support.tuf_repository import TufRepository, rule

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 60.0
Told = UpdateReport | Event


@dataclass
class Victim:
    """One device, its repository, and the server that offers the repository's files."""

    home: AgentHome
    repository: TufRepository
    server: FaultyServer
    scratch: Path

    @property
    def slots(self) -> Slots:
        """What serves, read from the disk."""
        return Slots(open_slot(self.home.state_dir, "main"))

    def enrol(self) -> None:
        """Belong to the repository's fleet."""
        file = self.home.state_dir / "device.json"
        file.unlink(missing_ok=True)
        Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(32),
            epoch=1,
            tuf_root=self.repository.root,
            broker_host="127.0.0.1",
            broker_port=1,
            api_url=self.server.url,
        ).save(file)

    def moved_to(self, folder: Path, server: FaultyServer) -> "Victim":
        """Return a copy of this device and its repository below other folders."""
        place = folder / "device"
        place.mkdir()
        home = AgentHome(place)
        shutil.copytree(self.home.state_dir, home.state_dir, dirs_exist_ok=True)
        repository = self.repository.fork(server.folder)
        moved = replace(self, home=home, repository=repository, server=server)
        moved.enrol()
        return moved

    def install(self) -> None:
        """Take what the fleet wants, and let it prove itself."""
        self.look()
        journal, slots = Journal(self.home.slot_dir / JOURNAL_NAME), self.slots
        slots.begin_trial(journal.record.digest)
        journal.advance(UpdateState.TRIAL)
        slots.commit()
        journal.advance(UpdateState.COMMITTED)

    def list_release(self, number: int, **custom: object) -> tuple[str, str]:
        """Have the builder list a release; return its target and its digest."""
        path = self.scratch / f"{number}.bundle"
        recipe = ModelRecipe(seed=number)
        digest = make_bundle(path, recipe, sign_key=self.repository.builder_key)
        target = f"models/toy-{number}.bundle"
        self.repository.add_bundle(
            target, path, digest=digest, counter=number, **custom
        )
        return target, digest

    def want(self, number: int, **custom: object) -> str:
        """List a release and have it wanted; return its digest."""
        target, digest = self.list_release(number, **custom)
        self.repository.set_desired(number, rule(target, digest, number))
        return digest

    def look(self) -> Sequence[Told]:
        """Check for an update once; return what the server would be told."""
        clock, slots = SystemClock(), self.slots
        outbox = Outbox(self.home.state_dir / "outbox.sqlite", 1 << 20, clock)
        reporter = Reporter(outbox, clock)
        updater = Updater(
            command=[
                *self.home.command,
                "update",
                f"--config={self.home.config}",
            ],
            folder=self.home.slot_dir,
            slots=slots,
            clock=clock,
            poll_us=10**12,
            report=lambda record: reporter.append(
                build_report(record, slots.active, clock.wall_us())
            ),
            problem=lambda text: reporter.event("update.problem", "warning", text),
        )
        try:
            updater.poll()
            end = time.monotonic() + PATIENCE_SECONDS
            while updater.is_checking:
                assert time.monotonic() < end, "the check does not end"
                time.sleep(POLL_SECONDS)
                updater.poll()
            rows = outbox.next_rows(URGENT_LANE, 0, 64)
            outbox.hand_over(rows[-1].seq, URGENT_LANE)
            outbox.acknowledge(rows[-1].seq, b"")
        finally:
            updater.close()
            outbox.close()
        told = [decode_up(row.kind, row.body) for row in rows]
        return [one for one in told if isinstance(one, Told)]

    def pointers(self) -> Pointers:
        """What the slot's pointers name."""
        slots = self.slots
        return Pointers(slots.active, slots.previous, slots.trial)

    def files(self) -> set[str]:
        """Names of everything that lies around the device's state folder."""
        return {
            str(path.relative_to(self.home.folder))
            for path in self.home.folder.rglob("*")
            if self.home.state_dir not in path.parents
        }
