# SPDX-License-Identifier: Apache-2.0
"""A server with releases and a device that updates from it, over real HTTP."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.ota.machine import Journal, UpdateRecord, UpdateState
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.update import UpdateSettings, run_update
from edge_agent.ota.updater import Updater
from edge_contract.bundle import Bundle
from edge_contract.canonical import sha256_hex
from edge_contract.enrolment import Enrolment
from fleet.registry.stretches import find_delta
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.faulty_server import FaultyServer, serve_files
from tests.support.manual_clock import ManualClock
from tests.support.tuf_repository import TufRepository, rule

SELFTEST = [sys.executable, "-m", "edge_agent.cli", "selftest"]
TARGET = "models/toy-1.bundle"


@dataclass
class World:
    """One server and one device."""

    repository: TufRepository
    server: FaultyServer
    state_dir: Path
    enrolment: Enrolment
    scratch: Path

    def release(
        self, counter: int, *, signed: bool = True, wrong_golden: bool = False
    ) -> str:
        """Publish a release and want it everywhere; return its digest."""
        path = self.scratch / f"{counter}.bundle"
        recipe = ModelRecipe(seed=counter, wrong_golden=wrong_golden)
        key = self.repository.builder_key if signed else None
        digest = make_bundle(path, recipe, sign_key=key)
        target = f"models/toy-{counter}.bundle"
        self.repository.add_bundle(target, path, digest=digest, counter=counter)
        self.repository.set_desired(counter, rule(target, digest, counter))
        self.repository.publish()
        return digest

    @property
    def settings(self) -> UpdateSettings:
        return UpdateSettings(
            self.state_dir,
            "main",
            "linux-x86_64",
            lambda path: [*SELFTEST, str(path)],
        )

    def update(self, **changes: object) -> UpdateRecord:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        return run_update(settings, self.enrolment)

    @property
    def slot_dir(self) -> Path:
        return self.state_dir / "slots" / "main"

    @property
    def journal(self) -> Journal:
        return Journal(self.slot_dir / "update.json")

    def nothing_installed(self) -> bool:
        slots = Slots(open_slot(self.state_dir, "main"))
        return slots.active is None and not any((self.slot_dir / "store").iterdir())


@contextmanager
def open_world(tmp_path: Path) -> Iterator[World]:
    """Open one server and one device below a folder."""
    served, state_dir = tmp_path / "served", tmp_path / "state"
    state_dir.mkdir()
    repository = TufRepository(served)
    with serve_files(served) as server:
        enrolment = Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(32),
            epoch=1,
            tuf_root=repository.root,
            broker_host="127.0.0.1",
            broker_port=1,
            api_url=server.url,
            tags={"site": "north"},
        )
        yield World(repository, server, state_dir, enrolment, tmp_path)


def commit(world: World) -> None:
    """What the daemon does with a release that proves itself."""
    updater = new_updater(world)
    staged = updater.poll()
    assert staged is not None
    updater.begin_trial()
    updater.committed()


def new_updater(world: World, told: list[UpdateRecord] | None = None) -> Updater:
    heard = [] if told is None else told
    return Updater(
        command=[sys.executable, "-c", "raise SystemExit(0)"],
        folder=world.slot_dir,
        slots=Slots(world.slot_dir),
        clock=ManualClock(),
        poll_us=10**12,
        report=heard.append,
    )


def offer(world: World, source: int | None, target: int) -> dict[str, object]:
    """Put a delta between two releases on the server, as the server makes it."""
    bundles = world.scratch
    before = b"" if source is None else (bundles / f"{source}.bundle").read_bytes()
    delta = find_delta(before, (bundles / f"{target}.bundle").read_bytes())
    sha256 = sha256_hex(delta)
    path = world.repository.folder / "targets" / "deltas" / f"{sha256}.toy.delta"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(delta)
    found = None
    if source is not None:
        with Bundle.open(bundles / f"{source}.bundle") as bundle:
            found = bundle.digest
    return {
        "source": found,
        "path": f"deltas/{path.name}",
        "sha256": sha256,
        "bytes": len(delta),
    }


def want_by_delta(world: World, counter: int, *offers: dict[str, object]) -> str:
    digest = world.release(counter)
    target = f"models/toy-{counter}.bundle"
    wanted = rule(target, digest, counter, deltas=list(offers))
    world.repository.set_desired(counter + 100, wanted)
    world.repository.publish()
    return digest


def install(world: World) -> None:
    record = world.update()
    slots = Slots(world.slot_dir)
    slots.begin_trial(record.digest)
    slots.commit()
    journal = world.journal
    journal.advance(UpdateState.TRIAL)
    journal.advance(UpdateState.COMMITTED)


def want(world: World, counter: int, version: int, **policy: object) -> None:
    """Want a release under a policy."""
    with Bundle.open(world.scratch / f"{counter}.bundle") as bundle:
        digest = bundle.digest
    target = f"models/toy-{counter}.bundle"
    world.repository.set_desired(version, rule(target, digest, counter, policy=policy))
    world.repository.publish()
