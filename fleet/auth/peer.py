# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a Unix socket: the operating system knows.

Owns asking the kernel for the peer's user (``SO_PEERCRED``) and bringing the name to
the gate. Whoever the socket's file lets in has all rights, as with a token; but they
have a name that nobody can claim for them, which the rule of two persons needs.
"""

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from fleet.auth.actor import name_person

PEER = "peer"  # in the state of a connection
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid; see unix(7)


def find_peer(connection: socket.socket) -> str | None:
    """Return the actor at the other end, None where it is not a Unix socket."""
    if connection.family != socket.AF_UNIX:
        return None
    found = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _pid, uid, _gid = _CREDENTIALS.unpack(found)
    return name_person(uid)


class PeerProtocol(asyncio.Protocol):
    """Notes the peer's name, then leaves the connection to uvicorn's own protocol.

    The name goes into the connection's state, where no header can reach.
    """

    def __init__(self, **how: Any) -> None:
        self._inner: Any = AutoHTTPProtocol(**how)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection."""
        peer = find_peer(transport.get_extra_info("socket"))
        if peer is not None:
            self._inner.app_state = {**self._inner.app_state, PEER: peer}
        transport.set_protocol(self._inner)
        self._inner.connection_made(transport)
