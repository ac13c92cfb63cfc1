# SPDX-License-Identifier: Apache-2.0
"""Enrolment on the device: the file goes in, its secrets stay in the state folder.

Owns the writing of ``device.json``; ``device`` reads it. It asks no server.
"""

from pathlib import Path

from edge_agent.device import DEVICE_FILE, load_device, read_enrolment
from edge_agent.store import write_atomic
from edge_contract.enrolment import Enrolment
from edge_contract.errors import EnrolmentError


def enrol(file: Path, state_dir: Path) -> Enrolment:
    """Install an enrolment file in ``state_dir`` and delete it.

    A device that is enrolled already takes a new key or address for the same device
    and fleet, and no other identity.

    Raises:
        EnrolmentError: The file is missing or malformed, or names another device than
            the one that this state folder belongs to.
    """
    enrolment = read_enrolment(file, "write one with `edge-fleet device add`")
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
