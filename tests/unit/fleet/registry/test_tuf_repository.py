# SPDX-License-Identifier: Apache-2.0
"""Publishing: what a device reads, after every kind of interruption."""

from pathlib import Path

import pytest

from fleet.registry import init_repository, tuf_repository
from fleet.registry.errors import RepositoryError
from fleet.registry.files import save_bytes
from fleet.registry.site import Site
from fleet.registry.tuf_repository import TufRepository
from tests.support.registry_world import World

PATH = "fleets/default/desired.json"


def open_world(world: World) -> TufRepository:
    return Site(world.state, world.clock.now).open()


def test_new_repository_lists_nothing(world: World) -> None:
    assert world.reader().read(PATH) is None
    assert world.reader().read("models/sample-1.bundle") is None


def test_published_document_is_read_by_a_tuf_client(world: World) -> None:
    repository = open_world(world)
    reader = world.reader()
    for content in (b'{"a":1}', b'{"a":2}', b'{"a":1}'):
        repository.publish_desired("default", content)

        assert reader.read(PATH) == content
        assert repository.desired("default") == content


def test_versions_continue_above_those_of_a_lost_server(world: World) -> None:
    backup = {
        path: path.read_bytes()
        for path in (world.state / "tuf").rglob("*")
        if path.is_file()
    }
    reader = world.reader()
    repository = open_world(world)
    for number in range(5):
        repository.publish_desired("default", b'{"n":%d}' % number)
        assert reader.read(PATH) == b'{"n":%d}' % number
    for path in (world.state / "tuf").rglob("*.json"):
        path.unlink()
    for path, data in backup.items():
        path.write_bytes(data)

    world.clock.advance(minutes=1)
    open_world(world).publish_desired("default", b'{"restored":1}')

    assert reader.read(PATH) == b'{"restored":1}'


def test_a_crash_at_any_write_leaves_the_old_or_the_new_document(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = world.reader()
    open_world(world).publish_desired("default", b'{"n":0}')
    written: list[str] = []
    remaining = [0]

    def save_until_killed(path: Path, data: bytes) -> None:
        if remaining[0] == 0:
            raise KeyboardInterrupt
        remaining[0] -= 1
        written.append(path.name)
        save_bytes(path, data)

    monkeypatch.setattr(tuf_repository, "save_bytes", save_until_killed)
    for writes in range(4):
        repository = open_world(world)
        content = b'{"n":%d}' % (writes + 1)
        before = repository.desired("default")
        remaining[0] = writes
        with pytest.raises(KeyboardInterrupt):
            repository.publish_desired("default", content)
        assert reader.read(PATH) == before

        remaining[0] = 4
        written.clear()
        open_world(world).publish_desired("default", content)
        assert reader.read(PATH) == content
        assert written[0].endswith(".desired.json")
        assert written[1].endswith(".fleet-default.json")
        assert written[2].endswith(".snapshot.json")
        assert written[3] == "timestamp.json"


def test_a_refused_write_leaves_memory_as_the_disk_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = open_world(world)
    repository.publish_desired("default", b'{"n":0}')

    def refuse_snapshot(path: Path, data: bytes) -> None:
        if path.name.endswith(".snapshot.json"):
            raise OSError(28, "No space left on device")
        save_bytes(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(tuf_repository, "save_bytes", refuse_snapshot)
        with pytest.raises(OSError, match="No space"):
            repository.publish_desired("default", b'{"n":1}')
    assert repository.desired("default") == b'{"n":0}'

    repository.publish_desired("default", b'{"n":2}')

    assert world.reader().read(PATH) == b'{"n":2}'


def test_signatures_are_renewed_before_they_end(world: World) -> None:
    repository = open_world(world)
    repository.publish_desired("default", b'{"n":0}')
    assert repository.renew() == ()

    world.clock.advance(days=2)
    assert repository.renew() == ("timestamp",)
    assert repository.renew() == ()

    world.clock.advance(days=16)
    assert repository.renew() == ("fleet-default", "snapshot", "timestamp")
    left = {
        status.role: (status.expires - world.clock.now()).days
        for status in repository.status()
    }
    assert left["timestamp"] == 7
    assert left["snapshot"] == left["fleet-default"] == 30
    assert world.reader().read(PATH) == b'{"n":0}'


def test_a_fleet_is_added_later_and_the_others_keep_their_document(
    world: World,
) -> None:
    open_world(world).publish_desired("default", b'{"n":0}')
    reader = world.reader()
    assert reader.read(PATH) == b'{"n":0}'

    again = init_repository(world.state, ["default", "south"], world.clock.now)
    repository = open_world(world)
    repository.publish_desired("south", b'{"s":0}')

    assert again.root.read_bytes() == world.paths.root.read_bytes()
    assert repository.fleets == ("default", "south")
    assert reader.read("fleets/south/desired.json") == b'{"s":0}'
    assert reader.read(PATH) == b'{"n":0}'


def test_a_fleet_cannot_be_added_without_the_targets_key(world: World) -> None:
    (world.state / "keys" / "offline" / "targets.pem").unlink()

    with pytest.raises(RepositoryError, match="role targets: expected a private key"):
        init_repository(world.state, ["default", "south"], world.clock.now)


def test_the_server_opens_without_any_offline_key(world: World) -> None:
    for path in (world.state / "keys" / "offline").iterdir():
        path.unlink()

    open_world(world).publish_desired("default", b'{"n":0}')

    assert world.reader().read(PATH) == b'{"n":0}'


def test_keys_are_private_to_the_owner(world: World) -> None:
    files = list((world.state / "keys").rglob("*.pem"))

    assert {path.name for path in files} == {
        "root.pem",
        "targets.pem",
        "models.pem",
        "snapshot.pem",
        "timestamp.pem",
        "fleet-default.pem",
    }
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert world.paths.builder_public.read_bytes().startswith(b"-----BEGIN PUBLIC")


@pytest.mark.parametrize("name", ["timestamp.json", "1.root.json"])
def test_damaged_metadata_is_named(world: World, name: str) -> None:
    path = world.state / "tuf" / "metadata" / name
    path.write_bytes(path.read_bytes().replace(b'"expires":"2', b'"expires":"3'))

    with pytest.raises(RepositoryError, match="does not verify"):
        open_world(world)


def test_missing_repository_names_the_next_step(world: World) -> None:
    for path in (world.state / "tuf" / "metadata").iterdir():
        path.unlink()

    with pytest.raises(RepositoryError, match="edge-fleet init"):
        open_world(world)
