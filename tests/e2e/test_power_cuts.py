# SPDX-License-Identifier: Apache-2.0
"""The crash matrix of updates: power fails at every durable operation, and comes back.

Each case kills a step just before or after one operation on the disk, with or without
losing what was not forced out, once or again and again at the same place. After each,
the device must have a verified release to serve; with power, the update ends. Every
state is there: an update that waits, that runs in the shadow, that another takes the
place of, that breaks an invariant. Of the longest steps a third of the moments counts.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.ota.deferral import Terms
from edge_agent.ota.machine import Journal, UpdateState
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.update import UpdateSettings, run_update
from edge_agent.ota.updater import Updater
from edge_contract.bundle import Bundle
from edge_contract.canonical import sha256_hex
from edge_contract.enrolment import Enrolment
from edge_contract.update_policy import MaintenanceWindow
from edge_contract.wire import Scalar
from fleet.registry.stretches import find_delta
from tests.support import power
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.manual_clock import ManualClock
from tests.support.tuf_repository import TufRepository, rule

NOON_US = int(datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()) * 1_000_000
FOR_EVER = 4  # one more than a release may be tried
EVERY = 4  # which places fail for ever
SERVER = """
import sys, time
from pathlib import Path
from tests.support.faulty_server import serve_files
with serve_files(Path(sys.argv[1])) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
SELFTEST = [sys.executable, "-m", "edge_agent.cli", "selftest"]


@dataclass(frozen=True)
class Device:
    """One state folder."""

    state_dir: Path
    enrolment: Enrolment
    answer: Path  # what the real self-test said of both releases

    @property
    def slot(self) -> Path:
        return open_slot(self.state_dir, "main")

    @property
    def journal(self) -> Journal:
        return Journal(self.slot / "update.json")

    def fetch(self, terms: Terms | None = None) -> None:
        settings = UpdateSettings(
            *(self.state_dir, "main", "default"),
            lambda _: ["cat", str(self.answer)],
            terms=terms or Terms(),
            clock=ManualClock(NOON_US),
        )
        run_update(settings, self.enrolment)

    def wait_for_window(self) -> None:
        self.fetch(Terms(windows=(MaintenanceWindow((0,), 0, 1),)))
        assert self.journal.record.state is UpdateState.DEFERRED

    def spend_the_day(self) -> None:
        self.fetch(Terms(daily_bytes=1000))
        assert self.journal.record.state is UpdateState.DEFERRED

    def updater(self) -> Updater:
        return Updater(
            command=[],
            folder=self.slot,
            slots=Slots(self.slot),
            clock=ManualClock(),
            poll_us=10**12,
            report=lambda _: None,
        )

    def cast_shadow(self) -> None:
        updater = self.updater()
        updater.begin_shadow()
        updater.note_shadow({"compared": 7, "disagreed": 1})

    def try_out(self) -> None:
        self.updater().begin_trial()

    def commit(self) -> None:
        self.updater().committed()

    def go_back(self) -> None:
        figures: dict[str, Scalar] = {"compared": 9, "invariant": "confidence"}
        self.updater().rolled_back("agent.update.trial", "confidence", figures)

    def finish(self) -> None:
        """Do what a device with power does until nothing is left to do."""
        self.updater()
        if self.journal.record.state is not UpdateState.TRIAL:
            self.fetch()
        updater = self.updater()
        record = updater.record
        if record.is_ready or record.state in {UpdateState.SHADOW, UpdateState.TRIAL}:
            updater.begin_trial()
            updater.committed()


@dataclass(frozen=True)
class Site:
    """A server with releases, and a device that serves the first.

    Attributes:
        device: As it is before the update.
        pending: The same with another release that is ready to be tried.
    """

    device: Device
    pending: Device
    old: str
    new: str
    keys: list[bytes]

    def check_serves(self, device: Device) -> None:
        slots = Slots(device.slot)
        assert slots.active in {self.old, self.new}
        assert slots.active is not None
        with Bundle.open(slots.path(slots.active)) as bundle:
            assert bundle.digest == slots.active
            bundle.verify_signature(self.keys)
            bundle.check_files()
        assert device.journal.record.digest


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    served = folder / "served"
    repository = TufRepository(served)
    command = [sys.executable, "-c", SERVER, str(served)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        state_dir = folder / "state"
        state_dir.mkdir()
        enrolment = Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(32),
            epoch=1,
            tuf_root=repository.root,
            broker_host="127.0.0.1",
            broker_port=1,
            api_url=url,
            tags={},
        )
        device = Device(state_dir, enrolment, folder / "answer.json")
        pending = device
        paths = [folder / f"{counter}.bundle" for counter in (1, 2, 3)]
        digests = []
        for counter, path in enumerate(paths, 1):
            key = repository.builder_key
            digest = make_bundle(path, ModelRecipe(seed=counter), sign_key=key)
            digests.append(digest)
            told = subprocess.run([*SELFTEST, path], check=True, capture_output=True)
            device.answer.write_bytes(told.stdout)
            target = f"models/toy-{counter}.bundle"
            repository.add_bundle(target, path, digest=digest, counter=counter)
            wanted = rule(target, digest, counter)
            if counter == 3 and request.param == "delta":
                wanted["deltas"] = [_offer(served, paths[::2], digests[0])]
            repository.set_desired(counter, wanted)
            repository.publish()
            if counter == 1:
                device.finish()
            elif counter == 2:
                pending = _copy(device, folder / "pending")
                pending.fetch()
                assert pending.journal.record.is_ready
        with Bundle.open(paths[0]) as bundle:
            public = repository.signers["models"].public_key.keyval["public"]
            keys = [bytes.fromhex(public)]
            bundle.verify_signature(keys)
        yield Site(device, pending, digests[0], digests[2], keys)
        server.communicate("")


def _offer(served: Path, paths: list[Path], source: str) -> dict[str, object]:
    delta = find_delta(*(one.read_bytes() for one in paths))
    name = f"{sha256_hex(delta)}.toy.delta"
    folder = served / "tuf" / "targets" / "deltas"
    folder.mkdir()
    (folder / name).write_bytes(delta)
    found = {"sha256": sha256_hex(delta), "bytes": len(delta)}
    return {"source": source, "path": f"deltas/{name}", **found}


# What is done before, what power fails in, and of how many moments one is taken.
STEPS: dict[str, tuple[tuple[str, ...], str, int]] = {
    "fetch": ((), "fetch", 1),
    "fetch by delta": ((), "fetch", 3),
    "defer": ((), "wait_for_window", 3),
    "defer half-way": ((), "spend_the_day", 3),
    "go on": (("spend_the_day",), "fetch", 3),
    "supersede": ((), "fetch", 3),
    "shadow": (("fetch",), "cast_shadow", 1),
    "shadow to trial": (("fetch", "cast_shadow"), "try_out", 1),
    "breach in the shadow": (("fetch", "cast_shadow"), "go_back", 1),
    "begin trial": (("fetch",), "try_out", 1),
    "commit": (("fetch", "try_out"), "commit", 1),
    "breach on trial": (("fetch", "try_out"), "go_back", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "step"),
    [("delta" if "delta" in step else "whole", step) for step in STEPS],
    indirect=["site"],
)
def test_power_fails_at_every_operation(
    site: Site, step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, name, stride = STEPS[step]
    start = site.pending if step == "supersede" else site.device
    base = _copy(start, tmp_path / "base")
    for one in before:
        getattr(base, one)()
    whole = _copy(base, tmp_path / "whole")
    moments = power.run(whole.state_dir, getattr(whole, name))
    assert moments > 4
    cases = 0
    for die_at in range(0, moments, stride):
        for lose in (False, True):
            device = _copy(base, tmp_path / "device")
            work: Callable[[], None] = getattr(device, name)
            root = device.state_dir
            assert power.run(root, work, die_at=die_at, lose=lose) == 0
            site.check_serves(device)
            is_for_ever = lose and die_at % (EVERY * stride) == 0
            twin = _copy(device, tmp_path / "twin") if is_for_ever else device
            _restart(site, device, step)
            cases += 1
            if is_for_ever:
                for _ in range(FOR_EVER - 1):
                    root = twin.state_dir
                    power.run(root, twin.finish, die_at=die_at, lose=True)
                    site.check_serves(twin)
                _restart(site, twin, step)
                cases += 1
    assert cases >= 10
    with capsys.disabled():
        sys.stdout.write(f" {step}: {cases} power cuts ")


def _restart(site: Site, device: Device, step: str) -> None:
    device.finish()
    site.check_serves(device)
    record = device.journal.record
    active = Slots(device.slot).active
    ends = {UpdateState.COMMITTED, UpdateState.ROLLED_BACK, UpdateState.FAILED}
    assert record.state in ends
    if record.state is UpdateState.COMMITTED:
        assert active == site.new
    else:
        assert "breach" in step or record.reason == "agent.update.boot-loop"
        assert active == site.old
        assert record.reason


def _copy(device: Device, folder: Path) -> Device:
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(device.state_dir, folder, symlinks=True)
    return Device(folder, device.enrolment, device.answer)
