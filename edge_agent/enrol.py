# SPDX-License-Identifier: Apache-2.0
"""Enrolment on the device: the file goes in, its secrets stay in the state folder.

Owns ``device.json``. It asks no server; see ``edge_contract.enrolment`` for the format.
"""

from pathlib import Path
from typing import Final

from edge_agent.errors import NotEnrolledError
from edge_agent.store import write_atomic
from edge_contract.enrolment import MAX_ENROLMENT_BYTES, Enrolment
from edge_contract.errors import EnrolmentError

DEVICE_FILE: Final = "device.json"


def enrol(file: Path, state_dir: Path) -> Enrolment:
    """Install an enrolment file in ``state_dir`` and delete it.

    A device that is enrolled already takes a new key or address for the same device
    and fleet, and no other identity.

    Raises:
        EnrolmentError: The file is missing or malformed, or names another device than
            the one that this state folder belongs to.
    """
    enrolment = _read(file, "write one with `edge-fleet device add`")
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = state_dir / DEVICE_FILE
    if target.exists():
        old = load_device(state_dir)
        if (old.fleet, old.device) != (enrolment.fleet, enrolment.device):
            raise EnrolmentError(
                f"{target}: expected device {old.device} of fleet {old.fleet}, "
                f"found {enrolment.device} of fleet {enrolment.fleet} in {file}",
                next_step="give the other device a state_dir of its own",
            )
    write_atomic(target, enrolment.to_json(), mode=0o600)
    file.unlink()
    return enrolment


def load_device(state_dir: Path) -> Enrolment:
    """Return what this device is enrolled as.

    Raises:
        NotEnrolledError: It is not enrolled.
        EnrolmentError: ``device.json`` is damaged.
    """
    path = state_dir / DEVICE_FILE
    if not path.exists():
        raise NotEnrolledError(
            f"{path}: expected an enrolment, found none",
            next_step="run `edge-agent enrol FILE` with a file from "
            "`edge-fleet device add`",
        )
    return _read(path, "enrol the device again")


def _read(path: Path, next_step: str) -> Enrolment:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_ENROLMENT_BYTES + 1)
    except OSError as error:
        raise EnrolmentError(
            f"{path}: {error.strerror}", next_step=next_step
        ) from error
    return Enrolment.from_json(data)
