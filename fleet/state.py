# SPDX-License-Identifier: Apache-2.0
"""The state folder: making it, locking it, and the ports that it remembers.

Owns ``lock``, ``ports.json`` and ``run.json``. Keys, repository and database are made
by those who own them, in ``serve``.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.config import StateLayout
from fleet.errors import ListenError, StateError

_PRIVATE = 0o600


@contextmanager
def hold_lock(layout: StateLayout) -> Iterator[None]:
    """Hold the state folder's lock; it ends with the process, however that ends.

    Raises:
        StateError: There is no such folder, or another server holds it.
    """
    try:
        handle = os.open(layout.lock, os.O_RDWR | os.O_CREAT, _PRIVATE)
    except OSError as error:
        message = f"{layout.root}: expected a state folder: {error.strerror}"
        step = f"run `edge-fleet init --state {layout.root}` first"
        raise StateError(message, next_step=step) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        message = f"{layout.root}: another edge-fleet uses this state folder"
        step = "stop it, or choose another folder with --state"
        raise StateError(message, next_step=step) from error
    finally:
        os.close(handle)


def write_private(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document that only its owner may read, all of it or nothing."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def listen_on(host: str, port: int) -> socket.socket:
    """Bind and listen.

    Raises:
        ListenError: The address is in use or not this machine's.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        message = f"{host}:{port}: cannot listen: {error.strerror}"
        step = "end what listens there, or choose another port with --port"
        raise ListenError(message, next_step=step) from error
    return listener


def listen_locally(path: Path, group: str) -> socket.socket:
    """Listen on a Unix socket that its owner, and a group if named, may use.

    Raises:
        ListenError: It is in use, or cannot be made.
    """
    folder = -1
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        address = short_address(folder, path.name)
        _remove_stale(address, path)
        before = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(before)
        if group:
            shutil.chown(path, group=group)
            path.chmod(_PRIVATE | 0o060)
        listener.listen()
    except (OSError, LookupError) as error:
        listener.close()
        step = "name another with listen.socket, or another listen.group, in fleet.yaml"
        message = f"{path}: cannot listen: {error}"
        raise ListenError(message, next_step=step) from error
    finally:
        if folder >= 0:
            os.close(folder)
    return listener


def short_address(folder: int, name: str) -> str:
    """Return an address of a Unix socket in an open folder: paths may be too long."""
    return f"/proc/self/fd/{folder}/{name}"


def _remove_stale(address: str, path: Path) -> None:
    """Remove what a server that died left; refuse what another one listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        else:
            raise FileExistsError(errno.EADDRINUSE, "another server listens there")


def pick_ports(layout: StateLayout, http_port: int, broker_port: int) -> dict[str, int]:
    """Return the ports to use: those asked for, else remembered ones, else free ones.

    Enrolled devices know the ports, so a free one is picked once and kept.
    """
    try:
        remembered = json.loads(layout.ports.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        remembered = {}
    ports = {
        "http": http_port or int(remembered.get("http", 0)) or _free_port(),
        "broker": broker_port or int(remembered.get("broker", 0)) or _free_port(),
    }
    if ports != remembered:
        write_private(layout.ports, ports)
    return ports


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
