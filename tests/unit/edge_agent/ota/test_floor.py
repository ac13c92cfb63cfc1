# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.errors import StateError, UpdateTrustError
from edge_agent.ota.floor import ROOT, Floor, Seen

SEEN = Seen(version=5, keys="a", root=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "floor"
    Floor(path).check_and_raise({"snapshot": SEEN})
    return path


@pytest.mark.parametrize(
    "found",
    [
        replace(SEEN, version=4),
        replace(SEEN, version=4, root=3),
        replace(SEEN, version=4, keys="b"),
        replace(SEEN, version=4, keys="b", root=1),
    ],
    ids=["older", "older, newer root", "other keys, same root", "an old root's keys"],
)
def test_an_older_version_is_refused_by_a_floor_read_from_disk(
    path: Path, found: Seen
) -> None:
    with pytest.raises(UpdateTrustError, match="expected version 5 or newer, found 4"):
        Floor(path).check({"snapshot": found})


def test_new_keys_under_a_newer_root_begin_anew(path: Path) -> None:
    renewed = Seen(version=1, keys="b", root=3)
    Floor(path).check_and_raise({"snapshot": renewed})
    floor = Floor(path)
    floor.check({"snapshot": renewed})
    with pytest.raises(UpdateTrustError):
        floor.check({"snapshot": replace(SEEN, version=0, root=3, keys="b")})


def test_the_root_never_goes_back(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "floor")
    floor.check_and_raise({ROOT: Seen(3, "", 3)})
    with pytest.raises(UpdateTrustError, match="metadata of root"):
        floor.check({ROOT: Seen(2, "x", 2)})


def test_one_refusal_raises_nothing(path: Path) -> None:
    floor = Floor(path)
    before = path.read_bytes()
    with pytest.raises(UpdateTrustError):
        floor.check_and_raise({"targets": SEEN, "snapshot": replace(SEEN, version=1)})
    assert path.read_bytes() == before
    floor.check({"targets": replace(SEEN, version=0)})


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2, "roles": {"x": 1}}']
)
def test_a_damaged_floor_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "floor"
    path.write_bytes(data)
    with pytest.raises(StateError, match="floor: malformed"):
        Floor(path)
