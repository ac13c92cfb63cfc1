# SPDX-License-Identifier: Apache-2.0
"""A disk whose power can fail: a process dies at its n-th durable operation.

``run`` forks, counts every call that changes names or forces bytes to the disk below
one folder, and kills the child just before or just after the chosen one. With ``lose``
all that was not forced out is then gone: contents go back to the last ``fsync`` of the
file, names to the last ``fsync`` of the folder, the worst that POSIX allows.
"""

import os
import shutil
import signal
import stat
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CALLS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")
_NEVER = -1


@dataclass
class _Image:
    """What would be there after a power cut."""

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)
    folders: dict[str, dict[str, tuple[int, bool]]] = field(default_factory=dict)

    def take_all(self) -> None:
        for folder, _, files in os.walk(self.root):
            self.take_names(folder)
            for name in files:
                path = Path(folder, name)
                self.contents[path.stat().st_ino] = path.read_bytes()

    def take_names(self, folder: str) -> None:
        self.folders[folder] = {
            one.name: (one.inode(), one.is_dir(follow_symlinks=False))
            for one in os.scandir(folder)
        }

    def take(self, descriptor: int) -> None:
        place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if not place.startswith(str(self.root)):
            return
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.take_names(place)
        else:
            copy = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            with os.fdopen(copy, "rb") as stream:
                self.contents[found.st_ino] = stream.read()

    def restore(self, folder: str) -> None:
        names = self.folders.get(folder, {})
        for one in list(os.scandir(folder)):
            kept = names.get(one.name)
            if kept is None or kept[0] != one.inode():
                if one.is_dir(follow_symlinks=False):
                    shutil.rmtree(one.path)
                else:
                    Path(one.path).unlink()
        for name, (inode, is_folder) in names.items():
            path = Path(folder, name)
            if is_folder:
                path.mkdir(exist_ok=True)
                self.restore(str(path))
            elif not path.is_symlink():
                path.write_bytes(self.contents.get(inode, b""))


def run(
    root: Path, work: Callable[[], None], *, die_at: int = _NEVER, lose: bool = False
) -> int:
    """Do ``work`` in a child whose power may fail.

    Args:
        root: The folder whose operations count; links in it are left alone.
        work: What to do; single-threaded at the fork.
        die_at: Before which operation, from 0; each has a moment before and after it.
        lose: Whether what was not forced out is lost.

    Returns:
        How many moments there were; 0 where the child died as asked.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(root, work, (die_at, lose), writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return 0
    assert status == 0, answer.decode()
    return int(answer)


def _be_child(
    root: Path, work: Callable[[], None], death: tuple[int, bool], writer: int
) -> None:
    try:
        fuse = _Fuse(root, death[0], lose=death[1])
        fuse.install()
        work()
        os.write(writer, str(fuse.moments).encode())
        os._exit(0)
    except BaseException:  # noqa: BLE001 - told to the parent
        os.write(writer, traceback.format_exc().encode())
        os._exit(1)


class _Fuse:
    """Counts the moments of this process, and ends it at one of them."""

    def __init__(self, root: Path, die_at: int, *, lose: bool) -> None:
        self._root = root
        self._die_at = die_at
        self._lose = lose
        self._image = _Image(root)
        self._image.take_all()
        self._originals = {name: getattr(os, name) for name in _CALLS}
        self.moments = 0

    def install(self) -> None:
        for name in _CALLS:
            setattr(os, name, self._wrapped(name))

    def _wrapped(self, name: str) -> Callable[..., Any]:
        original = self._originals[name]

        def call(*arguments: Any, **named: Any) -> Any:
            if not _concerns(self._root, arguments[0]):
                return original(*arguments, **named)
            self._pass()
            result = original(*arguments, **named)
            if name == "fsync":
                self._image.take(arguments[0])
            self._pass()
            return result

        return call

    def _pass(self) -> None:
        if self.moments == self._die_at:
            for name, original in self._originals.items():
                setattr(os, name, original)
            if self._lose:
                self._image.restore(str(self._root))
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments += 1


def _concerns(root: Path, first: Any) -> bool:
    if isinstance(first, int):
        first = Path(f"/proc/self/fd/{first}").readlink()
    # A name relative to a folder's descriptor comes from rmtree, below the root here.
    path = Path(first)
    return not path.is_absolute() or path.is_relative_to(root)
