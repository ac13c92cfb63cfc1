# SPDX-License-Identifier: Apache-2.0
"""Attacks on updates: whoever owns the network, the mirror or one key installs nothing.

Each attack is made on a device that serves a release, against the program's own check
over HTTP. What serves must not change, nothing may be left beside the state folder, and
the server must be told why. When the attacker is gone, the device follows its fleet
again. Attacks on messages are in tests/e2e/test_message_attacks.py.
"""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.ota.update import UpdateSettings, run_update
from edge_contract.enrolment import Enrolment
from edge_contract.messages import Event
from edge_contract.signing import generate_key
from tests.support.agent_home import AgentHome
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.faulty_server import Fault, FaultyServer, serve_files
from tests.support.tuf_repository import TufRepository, rule
from tests.support.victim import Told, Victim

OLD, GOOD, EVIL = 1, 2, 3
EXPIRED = "agent.update.expired"
FETCH = "agent.update.fetch-refused"
REJECTED = "agent.update.rejected"
TRUST = "agent.update.trust"
UPDATE = "agent.update"
pytestmark = pytest.mark.slow
SERVER_KEYS = ("fleet", "snapshot", "timestamp")


@dataclass(frozen=True)
class Attack:
    """What an attacker does, and the code under which the server hears of it."""

    name: str
    act: Callable[[Victim], object]
    code: str


def serve_old_files(victim: Victim) -> None:
    shutil.rmtree(victim.repository.folder)
    shutil.copytree(victim.scratch / "old", victim.repository.folder)


def serve_old_files_after_cache_loss(victim: Victim) -> None:
    serve_old_files(victim)
    for path in (victim.home.state_dir / "tuf").iterdir():
        if path.is_file() and path.name != "floor":
            path.unlink()


def let_it_expire(victim: Victim) -> None:
    victim.want(EVIL)
    victim.repository.expires = datetime.now(UTC) - timedelta(hours=1)
    victim.repository.publish()


def mix_old_and_new(victim: Victim) -> None:
    victim.want(EVIL)
    victim.repository.publish()
    metadata = victim.repository.folder / "metadata"
    now = victim.repository.version
    shutil.copy(metadata / f"{now - 1}.models.json", metadata / f"{now}.models.json")


def forge_everything(victim: Victim) -> None:
    victim.repository.steal()
    victim.want(EVIL)
    victim.repository.publish()


def forge_a_root(victim: Victim) -> None:
    victim.repository.steal()
    victim.repository.write_root(2)
    victim.want(EVIL)
    victim.repository.publish()


def steal_timestamp(victim: Victim) -> None:
    victim.want(EVIL)
    victim.repository.steal("timestamp")
    victim.repository.publish(held=("models", "fleet"))


def steal_snapshot_and_timestamp(victim: Victim) -> None:
    victim.want(EVIL)
    victim.repository.steal("snapshot", "timestamp")
    victim.repository.publish(held=("models", "fleet"))


def steal_the_builder(victim: Victim) -> None:
    victim.repository.publish()
    victim.list_release(EVIL)
    now = victim.repository.version
    forged = victim.repository.forge("models")
    (victim.repository.folder / "metadata" / f"{now}.models.json").write_bytes(forged)


def steal_the_builder_and_the_files(victim: Victim) -> None:
    victim.want(EVIL)
    victim.repository.steal("models")
    victim.repository.publish(held=("models", "fleet"))


def steal_the_server(victim: Victim, version: int, *rules: object, **how: str) -> None:
    victim.repository.steal(*SERVER_KEYS)
    victim.repository.set_desired(version, *rules, **how)  # type: ignore[arg-type]
    victim.repository.publish(held=("fleet",))


def name_another_digest(victim: Victim) -> None:
    steal_the_server(victim, EVIL, rule("models/toy-1.bundle", "ab" * 32, OLD))


def name_another_counter(victim: Victim) -> None:
    digest = make_bundle(victim.scratch / "any.bundle", ModelRecipe(seed=OLD))
    steal_the_server(victim, EVIL, rule("models/toy-1.bundle", digest, 99))


def name_what_no_builder_lists(victim: Victim) -> None:
    steal_the_server(victim, EVIL, rule("models/evil.bundle", "ab" * 32, EVIL))


def name_a_withdrawn_release(victim: Victim) -> None:
    victim.repository.withdraw("models/toy-1.bundle")
    victim.repository.publish()
    digest = make_bundle(victim.scratch / "any.bundle", ModelRecipe(seed=OLD))
    steal_the_server(victim, EVIL, rule("models/toy-1.bundle", digest, OLD))


def name_a_path_outside(victim: Victim) -> None:
    path = "models/../../../../device/evil"
    steal_the_server(victim, EVIL, rule(path, "ab" * 32, EVIL))


def name_a_digest_that_is_a_path(victim: Victim) -> None:
    """Of both keys: the builder's tool is made to list it, too."""
    path = victim.scratch / f"{EVIL}.bundle"
    make_bundle(path, sign_key=victim.repository.builder_key)
    target, digest = "models/evil.bundle", "../../../evil"
    victim.repository.add_bundle(target, path, digest=digest, counter=EVIL)
    victim.repository.set_desired(EVIL, rule(target, digest, EVIL))
    victim.repository.publish()


def name_an_old_order(victim: Victim) -> None:
    digest = make_bundle(victim.scratch / "any.bundle", ModelRecipe(seed=OLD))
    steal_the_server(victim, OLD, rule("models/toy-1.bundle", digest, OLD))


def name_another_fleet(victim: Victim) -> None:
    digest = make_bundle(victim.scratch / "any.bundle", ModelRecipe(seed=OLD))
    wanted = rule("models/toy-1.bundle", digest, OLD)
    steal_the_server(victim, EVIL, wanted, fleet="other")


def name_a_delta_outside(victim: Victim) -> None:
    delta = {"source": None, "path": "deltas/../../x", "sha256": "00", "bytes": 1}
    wanted = rule("models/toy-1.bundle", "ab" * 32, OLD, deltas=[delta])
    steal_the_server(victim, EVIL, wanted)


def write_a_desired(data: bytes) -> Callable[[Victim], None]:
    def act(victim: Victim) -> None:
        victim.repository.steal(*SERVER_KEYS)
        victim.repository.set_desired_bytes(data)
        victim.repository.publish(held=("fleet",))

    return act


def flood(*names: str) -> Callable[[Victim], None]:
    def act(victim: Victim) -> None:
        victim.want(EVIL)
        victim.repository.publish()
        victim.server.floods.update(names)

    return act


def misserve(*faults: Fault) -> Callable[[Victim], None]:
    def act(victim: Victim) -> None:
        victim.want(EVIL)
        victim.repository.publish()
        victim.server.faults.extend(faults)

    return act


def serve_another_bundle(victim: Victim) -> None:
    victim.want(EVIL)
    victim.repository.publish()
    folder = victim.repository.folder / "targets" / "models"
    (served,) = folder.glob(f"*.toy-{EVIL}.bundle")
    (other,) = folder.glob(f"*.toy-{OLD}.bundle")
    assert served.stat().st_size == other.stat().st_size
    shutil.copy(other, served)


def list_for(**custom: object) -> Callable[[Victim], None]:
    def act(victim: Victim) -> None:
        victim.want(EVIL, **custom)
        victim.repository.publish()

    return act


def list_bundle(write: Callable[[Path, bytes], str]) -> Callable[[Victim], None]:
    """Have builder and server agree on a bundle that is not what it should be."""

    def act(victim: Victim) -> None:
        path = victim.scratch / f"evil-{write.__name__}.bundle"
        digest = write(path, victim.repository.builder_key)
        target = "models/evil.bundle"
        victim.repository.add_bundle(target, path, digest=digest, counter=EVIL)
        victim.repository.set_desired(EVIL, rule(target, digest, EVIL))
        victim.repository.publish()

    return act


def unsigned(path: Path, _key: bytes) -> str:
    return make_bundle(path)


def signed_by_another(path: Path, _key: bytes) -> str:
    return make_bundle(path, sign_key=generate_key()[0])


def of_another_digest(path: Path, key: bytes) -> str:
    make_bundle(path, sign_key=key)
    return "cd" * 32


def with_bomb(path: Path, key: bytes) -> str:
    digest = make_bundle(path, sign_key=key)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(one for one in entries if one.startswith("files/"))
    entries[name] = bytes(64 << 20)
    _rezip(path, entries, zipfile.ZIP_DEFLATED)
    return digest


def with_entry_outside(path: Path, key: bytes) -> str:
    digest = make_bundle(path, sign_key=key)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    _rezip(path, {"../../../evil": b"evil", **entries}, zipfile.ZIP_STORED)
    return digest


def _rezip(path: Path, entries: dict[str, bytes], how: int) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name), entries[name], how)


ATTACKS = (
    Attack("replay", serve_old_files, TRUST),
    Attack("replay-after-cache-loss", serve_old_files_after_cache_loss, TRUST),
    Attack("freeze", let_it_expire, EXPIRED),
    Attack("mix-and-match", mix_old_and_new, TRUST),
    Attack("forged-repository", forge_everything, TRUST),
    Attack("forged-root", forge_a_root, TRUST),
    Attack("stolen-timestamp", steal_timestamp, TRUST),
    Attack("stolen-snapshot-and-timestamp", steal_snapshot_and_timestamp, TRUST),
    Attack("stolen-builder", steal_the_builder, UPDATE),
    Attack("stolen-builder-owned-mirror", steal_the_builder_and_the_files, TRUST),
    Attack("stolen-server-other-digest", name_another_digest, REJECTED),
    Attack("stolen-server-other-counter", name_another_counter, REJECTED),
    Attack("stolen-server-own-release", name_what_no_builder_lists, REJECTED),
    Attack("stolen-server-withdrawn-release", name_a_withdrawn_release, REJECTED),
    Attack("stolen-server-target-outside", name_a_path_outside, REJECTED),
    Attack("stolen-server-delta-outside", name_a_delta_outside, UPDATE),
    Attack("stolen-server-old-order", name_an_old_order, TRUST),
    Attack("stolen-server-other-fleet", name_another_fleet, TRUST),
    Attack("stolen-server-nonsense", write_a_desired(b"\xff{"), UPDATE),
    Attack("stolen-server-deep", write_a_desired(b"[" * 100_000), UPDATE),
    Attack("stolen-server-huge-order", write_a_desired(bytes(1 << 20)), UPDATE),
    Attack("digest-outside", name_a_digest_that_is_a_path, UPDATE),
    Attack("endless-timestamp", flood("/timestamp.json"), UPDATE),
    Attack("endless-root", flood("/2.root.json"), UPDATE),
    Attack("endless-snapshot", flood(".snapshot.json"), UPDATE),
    Attack("endless-order", flood(".desired.json"), UPDATE),
    Attack("lying-mirror", misserve(Fault(flip_byte=True)), TRUST),
    Attack("mirror-serves-another-release", serve_another_bundle, TRUST),
    Attack("mirror-compresses", misserve(Fault(encoding="gzip")), FETCH),
    Attack("mirror-redirects", misserve(Fault(status=302)), FETCH),
    Attack("wrong-hardware", list_for(hardware=["rpi4"]), REJECTED),
    Attack("wrong-length", list_for(bytes=5), REJECTED),
    Attack("unsigned-bundle", list_bundle(unsigned), "bundle.unsigned"),
    Attack("wrongly-signed-bundle", list_bundle(signed_by_another), "bundle.signature"),
    Attack("bundle-of-another-digest", list_bundle(of_another_digest), TRUST),
    Attack("decompression-bomb", list_bundle(with_bomb), "bundle.format"),
    Attack("bundle-entry-outside", list_bundle(with_entry_outside), "bundle.format"),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A device that serves the second release of its fleet, and the first's files."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "device").mkdir()
    scratch = folder / "scratch"
    scratch.mkdir()
    repository = TufRepository(folder / "served")
    with serve_files(folder / "served") as server:
        victim = Victim(AgentHome(folder / "device"), repository, server, scratch)
        victim.enrol()
        victim.want(OLD)
        repository.publish()
        shutil.copytree(repository.folder, scratch / "old")
        good = victim.want(GOOD)
        repository.publish()
        victim.install()
    assert victim.slots.active == good
    return victim


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyServer]:
    (tmp_path / "served").mkdir()
    with serve_files(tmp_path / "served") as server:
        yield server


@pytest.fixture
def victim(original: Victim, server: FaultyServer, tmp_path: Path) -> Victim:
    return original.moved_to(tmp_path, server)


def codes(told: list[Told]) -> list[str]:
    """The error codes of what the server was told of."""
    return [
        one.detail.partition(": ")[0] if isinstance(one, Event) else one.reason
        for one in told
    ]


def let_the_owner_return(victim: Victim, owner: TufRepository) -> None:
    """Check in this process: nothing is to be fetched, so nothing is to be tested."""
    victim.server.floods.clear()
    victim.server.faults.clear()
    last = victim.repository.version
    shutil.rmtree(victim.repository.folder)
    victim.repository = owner.fork(victim.server.folder)
    victim.repository.version = last
    digest = victim.slots.active or ""
    wanted = rule(f"models/toy-{GOOD}.bundle", digest, GOOD)
    victim.repository.set_desired(1000, wanted)
    victim.repository.publish()
    enrolment = Enrolment.from_json(
        (victim.home.state_dir / "device.json").read_bytes()
    )
    state_dir = victim.home.state_dir
    run_update(
        UpdateSettings(state_dir, "main", "linux-x86_64", lambda _: []), enrolment
    )


def test_attacks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    names = [one.name for one in ATTACKS]
    with capsys.disabled():
        print(f"\n{len(names)} attacks on updates")  # noqa: T201 - for people
    assert len(set(names)) == len(names) >= 20


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_an_attack_installs_nothing_and_is_told(
    attack: Attack, victim: Victim, tmp_path: Path
) -> None:
    (tmp_path / "owner").mkdir()
    owner = victim.repository.fork(tmp_path / "owner")
    before = victim.pointers(), victim.files()
    serving = victim.slots.path(before[0].active or "").read_bytes()

    attack.act(victim)
    told = victim.look()

    assert attack.code in codes(list(told))
    assert (victim.pointers(), victim.files()) == before
    store = victim.home.slot_dir / "store"
    assert [one.name for one in store.iterdir()] == [before[0].active]
    assert victim.slots.path(before[0].active or "").read_bytes() == serving
    let_the_owner_return(victim, owner)
    assert victim.pointers() == before[0]
