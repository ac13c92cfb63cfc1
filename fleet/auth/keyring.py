# SPDX-License-Identifier: Apache-2.0
"""The master key and the keys of the devices that derive from it.

Owns the file ``master.key`` (0600, outside database and backups). It does not know
which devices exist.
"""

import os
from pathlib import Path

from edge_contract.keys import (
    KEY_BYTES,
    DeviceKeys,
    derive_device_key,
    generate_master_key,
)
from fleet.errors import StateError


class KeyRing:
    """Derives and keeps the keys of devices; safe to share between threads.

    Args:
        master: The server's master key, 32 bytes.
    """

    def __init__(self, master: bytes) -> None:
        self._master = master
        self._known: dict[tuple[str, int], DeviceKeys] = {}

    def find(self, device: str, epoch: int) -> DeviceKeys:
        """Return the keys of ``device`` in ``epoch``."""
        keys = self._known.get((device, epoch))
        if keys is None:
            key = self.device_key(device, epoch)
            keys = DeviceKeys.from_device_key(key, epoch)
            self._known[device, epoch] = keys
        return keys

    def device_key(self, device: str, epoch: int) -> bytes:
        """Return the key that goes into the enrolment file of ``device``."""
        return derive_device_key(self._master, device, epoch)


def create_master_key(path: Path) -> None:
    """Write a new master key with mode 0600 unless the file exists."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as stream:
        stream.write(generate_master_key())
        stream.flush()
        os.fsync(stream.fileno())


def load_key_ring(path: Path) -> KeyRing:
    """Read the master key.

    Raises:
        StateError: The file is missing or not a key.
    """
    try:
        master = path.read_bytes()
    except OSError as error:
        message = f"{path}: expected the server's master key: {error}"
        raise StateError(message, next_step="run `edge-fleet init` first") from error
    if len(master) != KEY_BYTES:
        message = f"{path}: expected {KEY_BYTES} bytes, found {len(master)}"
        raise StateError(message, next_step="restore the file from where it is kept")
    return KeyRing(master)
