# SPDX-License-Identifier: Apache-2.0
"""The sockets that the service listens on: loopback, and a Unix socket of mode 0660.

Owns taking over a socket file that a killed agent left, and never one in use.
"""

import errno
import socket
import stat
from pathlib import Path
from typing import Final

from edge_agent.addresses import Address
from edge_agent.errors import ServeError

MODE: Final = 0o660
_MAX_PATH: Final = 107  # sun_path of unix(7), without its end


def open_loopback(address: Address) -> socket.socket:
    """Bind a loopback address.

    Raises:
        ServeError: It is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named: asyncio sets TCP_NODELAY only where it is, and without it
    # each answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        msg = f"service: {address}: {error.strerror}"
        raise ServeError(
            msg, next_step="stop what listens there, or name another port"
        ) from error
    return listener


def open_unix(path: Path) -> socket.socket:
    """Bind a Unix socket that its owner and group may use.

    Nobody can connect before the mode is set: a bound socket refuses until it listens.

    Raises:
        ServeError: Another program listens there, or the path cannot be one.
    """
    if len(str(path).encode()) > _MAX_PATH:
        msg = f"service: {path}: expected a path of at most {_MAX_PATH} bytes"
        raise ServeError(msg, next_step="name a shorter one, in /run for example")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(MODE)
    except OSError as error:
        listener.close()
        msg = f"service: {path}: {error.strerror}"
        raise ServeError(msg, next_step="check service.unix and its folder") from error
    except ServeError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        msg = f"service: {path}: expected a socket or nothing, found another file"
        raise ServeError(msg, next_step="name another path with service.unix")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            msg = f"service: {path}: another program listens there"
            raise ServeError(msg, next_step="stop it, or name another path")
    path.unlink(missing_ok=True)
