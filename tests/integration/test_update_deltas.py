# SPDX-License-Identifier: Apache-2.0
"""Deltas: a shorter way to the same bytes, and the whole where it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import UpdateError
from edge_agent.ota.slots import Slots
from edge_contract.canonical import sha256_hex
from tests.support.update_world import (
    World,
    install,
    offer,
    open_world,
    want_by_delta,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as one:
        yield one


def test_a_delta_is_fetched_in_place_of_the_whole(world: World) -> None:
    world.release(1)
    install(world)
    world.release(2)
    found = offer(world, 1, 2)
    digest = want_by_delta(world, 2, offer(world, None, 2), found)
    record = world.update()
    assert record.is_ready
    assert record.digest == digest
    assert record.downloaded_bytes == found["bytes"]
    bundle = Slots(world.slot_dir).path(digest)
    assert bundle.read_bytes() == (world.scratch / "2.bundle").read_bytes()
    assert not any((world.slot_dir / "part").iterdir())


def test_a_delta_from_a_release_that_is_not_here_is_not_used(world: World) -> None:
    world.release(1)
    world.release(2)
    digest = want_by_delta(world, 2, offer(world, 1, 2))
    record = world.update()
    assert record.digest == digest
    assert record.downloaded_bytes == (world.scratch / "2.bundle").stat().st_size


@pytest.mark.parametrize("harm", ["absent", "lies", "other target", "garbage"])
def test_whatever_is_wrong_with_a_delta_the_whole_is_fetched(
    world: World, harm: str
) -> None:
    world.release(1)
    install(world)
    world.release(2)
    found = offer(world, 1, 2)
    path = world.repository.folder / "targets" / str(found["path"])
    if harm == "absent":
        path.unlink()
    elif harm == "lies":
        path.write_bytes(bytes(path.stat().st_size))
    elif harm == "other target":
        found = offer(world, 1, 1)
    else:
        path.write_bytes(b"x" * 100)
        found |= {"sha256": sha256_hex(b"x" * 100), "bytes": 100}
    digest = want_by_delta(world, 2, found)
    record = world.update()
    assert record.is_ready
    assert record.digest == digest
    bundle = Slots(world.slot_dir).path(digest)
    assert bundle.read_bytes() == (world.scratch / "2.bundle").read_bytes()


def test_a_delta_outside_its_folder_is_refused(world: World) -> None:
    world.release(1)
    found = {**offer(world, None, 1), "path": "deltas/../../../etc/passwd"}
    want_by_delta(world, 1, found)
    with pytest.raises(UpdateError, match="below deltas/"):
        world.update()
    assert world.nothing_installed()
