# SPDX-License-Identifier: Apache-2.0
"""The folder of a slot: what an agent of one slot left is taken over, once."""

from pathlib import Path

from edge_agent.ota.slots import Slots, open_slot

DIGEST = "ab" * 32


def leave_old_state(state_dir: Path) -> None:
    slots = Slots(state_dir)
    slots.path(DIGEST).parent.mkdir()
    slots.path(DIGEST).write_bytes(b"bundle")
    slots.begin_trial(DIGEST)
    slots.commit()
    (state_dir / "update.json").write_text("{}")


def test_the_first_slot_takes_over_what_was_there(tmp_path: Path) -> None:
    leave_old_state(tmp_path)
    first = open_slot(tmp_path, "main")
    second = open_slot(tmp_path, "other")

    assert Slots(first).active == DIGEST
    assert Slots(first).holds(DIGEST)
    assert Slots(second).active is None
    assert sorted(one.name for one in tmp_path.iterdir()) == ["slots"]


def test_a_kill_in_the_middle_is_followed_by_the_rest(tmp_path: Path) -> None:
    leave_old_state(tmp_path)
    folder = tmp_path / "slots" / "main"
    folder.mkdir(parents=True)
    (folder / ".moving").touch()
    (tmp_path / "store").rename(folder / "store")

    assert Slots(open_slot(tmp_path, "main")).active == DIGEST
    assert not (folder / ".moving").exists()


def test_a_second_start_moves_nothing(tmp_path: Path) -> None:
    open_slot(tmp_path, "main")
    leave_old_state(tmp_path)

    assert Slots(open_slot(tmp_path, "main")).active is None
