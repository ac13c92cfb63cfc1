# SPDX-License-Identifier: Apache-2.0
"""The real service in this process, on free loopback ports."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from edge_agent.addresses import Address
from edge_agent.config import Duration, ServiceConfig
from edge_agent.flow import Predictions, Repository
from edge_agent.serve.server import Server

FREE = Address("127.0.0.1", 0)


@contextmanager
def serve_models(
    repository: Repository,
    config: ServiceConfig | None = None,
    *,
    patience_seconds: float = 10,
    parser: str | None = None,
    predictions: Predictions | None = None,
) -> Iterator[Server]:
    """Serve while the block runs."""
    config = config or ServiceConfig(http=FREE)
    server = Server(
        replace(config, patience=Duration(round(patience_seconds * 1e6))),
        repository,
        metrics=lambda: "edge_up 1\n",
        status=lambda: {"serving": "main"},
        predictions=predictions,
        parser=parser,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(server: Server) -> socket.socket:
    """Open a connection to the HTTP port."""
    assert server.http_address is not None
    client = socket.create_connection(server.http_address, timeout=20)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(client: socket.socket, data: bytes) -> tuple[int, bytes]:
    """Send bytes and receive one answer: status and body."""
    client.sendall(data)
    return receive(client)


def receive(client: socket.socket) -> tuple[int, bytes]:
    """Receive one answer; status 0 where the connection ended without one."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = client.recv(65536)
        if not part:
            return 0, got
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    lengths = [one[16:] for one in lines if one.startswith(b"content-length: ")]
    while len(body) < int(lengths[0]):
        part = client.recv(65536)
        if not part:
            break
        body += part
    return int(head.split()[1]), body


LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
