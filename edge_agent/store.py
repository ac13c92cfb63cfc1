# SPDX-License-Identifier: Apache-2.0
"""Durable files: replaced whole or not at all, and one owner of a state folder.

Owns how bytes reach the disk. It does not know what is in them.
"""

import contextlib
import fcntl
import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from edge_agent.errors import LockError

_RETRY_SECONDS: Final = 0.1


def write_atomic(
    path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True
) -> None:
    """Replace ``path`` by ``data``; a reader sees the old bytes or the new ones.

    Args:
        path: In an existing folder.
        data: The whole content.
        mode: Permissions of the new file.
        durable: Whether it must survive a power cut before this returns.

    Raises:
        OSError: The disk refused; the old file is untouched.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with os.fdopen(os.open(partial, flags, mode), "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class StateLock:
    """Exclusive use of a state folder for as long as the process lives.

    The kernel drops the lock with the process, so that a kill leaves none behind.

    Args:
        path: The lock's file.
        patience_seconds: How long to wait for another who holds it.
    """

    def __init__(self, path: Path, *, patience_seconds: float = 0.0) -> None:
        self._path = path
        self._patience_seconds = patience_seconds
        self._descriptor = -1

    def __enter__(self) -> Self:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        due = time.monotonic() + self._patience_seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= due:
                os.close(descriptor)
                msg = f"{self._path.parent}: another edge-agent uses this state folder"
                raise LockError(
                    msg, next_step="stop it, or give this one a state_dir of its own"
                )
            time.sleep(_RETRY_SECONDS)
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Return whether a live process holds the lock at ``path``."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)
