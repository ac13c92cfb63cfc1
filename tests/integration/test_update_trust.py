# SPDX-License-Identifier: Apache-2.0
"""What the update subprocess says of a repository that is not as it must be.

Each case installs nothing, marks no release bad, keeps what serves, and goes on as soon
as the repository, or the clock, is right again.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata
from tuf.ngclient._internal import trusted_metadata_set

from edge_agent.errors import UpdateTrustError
from edge_agent.ota.machine import Journal, UpdateRecord
from edge_agent.ota.resolve import UpdateRejectedError
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.trusted import ExpiredError
from edge_agent.ota.update import UpdateSettings, run_update
from edge_contract.enrolment import Enrolment
from edge_contract.errors import BundleSignatureError
from edge_contract.signing import generate_key, parse_public_key
from fleet.registry import metadata
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.faulty_server import serve_files
from tests.support.tuf_repository import TufRepository, rule

SELFTEST = [sys.executable, "-m", "edge_agent.cli", "selftest"]


class World:
    """A server with one release, and a device."""

    def __init__(self, folder: Path, url: str, repository: TufRepository) -> None:
        self.folder, self.repository = folder, repository
        self.state_dir = folder / "state"
        self.state_dir.mkdir()
        self._enrolment = Enrolment(
            fleet="default",
            device="watch-1",
            key=bytes(32),
            epoch=1,
            tuf_root=repository.root,
            broker_host="127.0.0.1",
            broker_port=1,
            api_url=url,
        )

    def release(self, counter: int, key: bytes | None = None, **custom: Any) -> str:
        path = self.folder / f"{counter}.bundle"
        sign_key = self.repository.builder_key if key is None else key
        digest = make_bundle(path, ModelRecipe(seed=counter), sign_key=sign_key)
        target = f"models/toy-{counter}.bundle"
        self.repository.add_bundle(
            target, path, digest=digest, counter=counter, **custom
        )
        self.repository.set_desired(counter, rule(target, digest, counter))
        self.repository.publish()
        return digest

    def update(self) -> UpdateRecord:
        settings = UpdateSettings(
            self.state_dir, "main", "linux-x86_64", lambda path: [*SELFTEST, str(path)]
        )
        return run_update(settings, self._enrolment)

    def edit(self, name: str, change: Callable[[Metadata[Any]], None]) -> None:
        """Change a published document behind the signers' backs."""
        (path,) = self.repository.folder.glob(f"metadata/{name}")
        document: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
        change(document)
        path.write_bytes(document.to_bytes())

    def check_untouched(self) -> None:
        slots = Slots(open_slot(self.state_dir, "main"))
        assert slots.active is None
        assert not any((self.state_dir / "slots" / "main" / "store").iterdir())
        journal = Journal(self.state_dir / "slots" / "main" / "update.json")
        assert journal.record == UpdateRecord()
        assert journal.problem


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    repository = TufRepository(tmp_path / "served")
    with serve_files(tmp_path / "served") as server:
        yield World(tmp_path, server.url, repository)


def unsign(document: Metadata[Any]) -> None:
    document.signatures.clear()


def halve(document: Metadata[Any]) -> None:
    """Leave a signature cut in the middle."""
    for one in document.signatures.values():
        one.signature = one.signature[: len(one.signature) // 2]


@pytest.mark.parametrize("change", [unsign, halve])
@pytest.mark.parametrize(
    "name",
    ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.fleet-default.json"],
)
def test_a_repository_that_is_unsigned_or_half_signed(
    world: World, name: str, change: Callable[[Metadata[Any]], None]
) -> None:
    world.release(1)
    world.edit(name, change)

    with pytest.raises(UpdateTrustError) as caught:
        world.update()

    assert caught.value.next_step == "check the server; nothing was installed"
    world.check_untouched()


def test_a_root_that_a_thief_signed(world: World) -> None:
    world.release(1)
    root: Metadata[Any] = Metadata.from_bytes(world.repository.root)
    root.signed.version += 1
    document = metadata.sign(root.signed, [CryptoSigner.generate_ed25519()])
    (world.repository.folder / "metadata" / "2.root.json").write_bytes(
        document.to_bytes()
    )

    with pytest.raises(UpdateTrustError, match="root"):
        world.update()
    world.check_untouched()

    (world.repository.folder / "metadata" / "2.root.json").unlink()
    assert world.update().digest


def test_a_root_that_expired_delays_and_a_renewed_one_goes_on(world: World) -> None:
    repository = world.repository
    after = repository.expires
    repository.expires = after - timedelta(days=2)
    repository.write_root(2)
    repository.expires = after
    digest = world.release(1)

    with pytest.raises(ExpiredError) as caught:
        world.update()
    assert "clock" in caught.value.next_step
    world.check_untouched()

    repository.write_root(3)
    assert world.update().digest == digest


@pytest.mark.parametrize("years", [73, 500])
def test_a_clock_far_ahead_delays_until_the_time_is_known(
    world: World, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    digest = world.release(1)
    with monkeypatch.context() as patch:
        set_clock(patch, datetime.now(UTC).replace(day=1) + timedelta(days=365 * years))
        with pytest.raises(ExpiredError):
            world.update()
    world.check_untouched()

    assert world.update().digest == digest


def test_a_clock_of_1970_updates_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board without a clock battery: what it may install is not older for it."""
    first = world.release(1)
    set_clock(monkeypatch, datetime(1970, 1, 1, tzinfo=UTC))
    assert world.update().digest == first
    second = world.release(2)
    assert world.update().digest == second


def set_clock(patch: pytest.MonkeyPatch, time: datetime) -> None:
    """Set the time that TUF's client reads."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return time.astimezone(tz)

    known = SimpleNamespace(datetime=Clock, timezone=timezone)
    patch.setattr(trusted_metadata_set, "datetime", known)


def test_a_release_that_lies_about_its_length(world: World) -> None:
    world.release(1, bytes=7)
    with pytest.raises(UpdateRejectedError, match="found 7 declared"):
        world.update()
    world.check_untouched()


def test_a_bundle_of_a_key_that_the_builder_names_is_taken(world: World) -> None:
    before, public = generate_key()
    world.release(1, key=before)
    with pytest.raises(BundleSignatureError):
        world.update()

    world.repository.bundle_keys = [parse_public_key(public).hex()]
    world.repository.publish()

    assert world.update().is_ready


@pytest.mark.parametrize("nonsense", [["x"], [7], "zz"])
def test_bundle_keys_that_are_none_are_refused(world: World, nonsense: Any) -> None:
    world.repository.bundle_keys = nonsense
    world.release(1)
    with pytest.raises(UpdateTrustError, match="expected keys that sign bundles"):
        world.update()
