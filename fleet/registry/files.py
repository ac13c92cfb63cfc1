# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a reader, or a power cut, sees the old or the new bytes.

Owns the one pattern (temporary file, fsync, rename, fsync of the folder) for keys,
metadata and targets. It knows nothing of what the bytes mean.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
_TEMPORARY_PREFIX = ".writing-"


def save_bytes(path: Path, data: bytes, *, mode: int = PUBLIC_MODE) -> None:
    """Write ``data`` to ``path`` atomically and durably, making its folder if needed.

    Raises:
        OSError: The disk refuses; ``path`` is then as it was.
    """
    save_chunks(path, (data,), mode=mode)


def save_chunks(
    path: Path, chunks: Iterable[bytes], *, mode: int = PUBLIC_MODE
) -> None:
    """Write like ``save_bytes`` what comes in pieces.

    Raises:
        OSError: The disk refuses; ``path`` is then as it was, as after any error of
            ``chunks``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY_PREFIX)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move_file(source: Path, path: Path) -> None:
    """Give the already synced file ``source`` its final name, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source.replace(path)
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there, durably."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary(folder: Path) -> None:
    """Delete what an interrupted ``save_bytes`` left anywhere below ``folder``."""
    for path in folder.rglob(f"{_TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)
