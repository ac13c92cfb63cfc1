# SPDX-License-Identifier: Apache-2.0
"""Enrolment: the file is consumed, the identity stays."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.device import load_device
from edge_agent.enrol import enrol
from edge_agent.errors import NotEnrolledError
from edge_contract.enrolment import Enrolment
from edge_contract.errors import EnrolmentError

ONE = Enrolment(
    "default", "watch-1", bytes(32), 1, b"{}", "127.0.0.1", 1883, "http://127.0.0.1:80"
)


def test_the_file_is_installed_and_deleted(tmp_path: Path) -> None:
    file, state_dir = tmp_path / "watch-1.json", tmp_path / "state"
    ONE.save(file)
    assert enrol(file, state_dir) == ONE
    assert not file.exists()
    assert load_device(state_dir) == ONE
    assert (state_dir / "device.json").stat().st_mode & 0o777 == 0o600


def test_a_new_key_for_the_same_device_is_taken(tmp_path: Path) -> None:
    ONE.save(tmp_path / "1")
    renewed = replace(ONE, key=bytes(range(32)), epoch=2)
    renewed.save(tmp_path / "2")
    enrol(tmp_path / "1", tmp_path)
    enrol(tmp_path / "2", tmp_path)
    assert load_device(tmp_path) == renewed


def test_another_identity_is_refused_and_its_file_kept(tmp_path: Path) -> None:
    ONE.save(tmp_path / "1")
    replace(ONE, device="watch-2").save(tmp_path / "2")
    enrol(tmp_path / "1", tmp_path)
    with pytest.raises(EnrolmentError, match="expected device watch-1"):
        enrol(tmp_path / "2", tmp_path)
    assert (tmp_path / "2").exists()
    assert load_device(tmp_path) == ONE


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="No such file"):
        enrol(tmp_path / "absent", tmp_path / "state")
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(EnrolmentError, match="malformed"):
        enrol(tmp_path / "bad", tmp_path / "state")
    assert (tmp_path / "bad").exists()
    with pytest.raises(NotEnrolledError, match="expected an enrolment"):
        load_device(tmp_path)
