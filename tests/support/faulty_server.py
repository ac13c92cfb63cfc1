# SPDX-License-Identifier: Apache-2.0
"""A file server over HTTP with ranges, which misbehaves as it is told.

Each fault is used up by one request for a target below ``models/`` or ``deltas/``.
"""

import hashlib
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """How one response goes wrong.

    Attributes:
        cut_after: Bytes of the body after which the connection ends.
        is_reset: It ends with a reset in place of an end.
        raw: Sent in place of everything, and then nothing more.
        ignore_range: The whole is sent, whatever was asked for.
        etag: In place of the real one; empty: none at all.
        extra_length: By how much the declared length is wrong.
        is_chunked: The body comes in chunks, without a length.
        drip: Seconds between ten bytes and the next ten.
        location: Where a redirect leads.
    """

    cut_after: int | None = None
    is_reset: bool = False
    raw: bytes | None = None
    extra_length: int = 0
    is_chunked: bool = False
    drip: float | None = None
    location: str | None = None
    status: int | None = None
    retry_after: str | None = None
    ignore_range: bool = False
    content_range: str | None = None
    encoding: str | None = None
    flip_byte: bool = False
    etag: str | None = None
    endless: bool = False


@dataclass
class FaultyServer:
    """What the requests of a test did.

    Attributes:
        floods: Ends of paths whose answer begins and never ends.
    """

    folder: Path
    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    body_bytes: int = 0
    uploads: dict[str, bytes] = field(default_factory=dict)
    floods: set[str] = field(default_factory=set)


@contextmanager
def serve_files(
    folder: Path, certificate: Path | None = None
) -> Iterator[FaultyServer]:
    """Serve ``folder`` while the block runs; over TLS where there is a certificate."""
    state = FaultyServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            _answer(self, state)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fault = state.faults.popleft() if state.faults else Fault()
            if fault.status is None:
                state.uploads[self.path] = body
            self.send_response(fault.status or 201)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        state.url = state.url.replace("http:", "https:")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, state: FaultyServer) -> None:
    if any(handler.path.endswith(one) for one in state.floods):
        _flood(handler)
        return
    is_target = "/targets/models/" in handler.path or "/deltas/" in handler.path
    if is_target:
        state.requests.append((handler.path, handler.headers.get("Range")))
    fault = state.faults.popleft() if is_target and state.faults else Fault()
    path = state.folder / handler.path.lstrip("/")
    if fault.raw is not None:
        handler.close_connection = True
        handler.wfile.write(fault.raw)
        return
    if fault.status is not None or not path.is_file():
        headers = {"Content-Length": "0"}
        if fault.location is not None:
            headers["Location"] = fault.location
        if fault.retry_after is not None:
            headers["Retry-After"] = fault.retry_after
        _send_head(handler, fault.status or 404, headers)
        return
    body = _send_file_head(handler, fault, path.read_bytes())
    sent = body if fault.cut_after is None else body[: fault.cut_after]
    if is_target:
        state.body_bytes += len(sent)
    is_short = fault.cut_after is not None or fault.extra_length != 0
    handler.close_connection = is_short or fault.is_chunked
    try:
        _send_body(handler, fault, sent)
    except OSError:
        handler.close_connection = True
    if fault.is_reset:
        # With nothing to linger for, close() sends a reset.
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()


def _send_body(handler: BaseHTTPRequestHandler, fault: Fault, body: bytes) -> None:
    if fault.drip is not None:
        for start in range(0, len(body), 10):
            handler.wfile.write(body[start : start + 10])
            time.sleep(fault.drip)
    elif fault.is_chunked:
        for start in range(0, len(body), 100):
            part = body[start : start + 100]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")
    else:
        handler.wfile.write(body)


def _flood(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except (BrokenPipeError, ConnectionResetError):
        return


def _send_file_head(
    handler: BaseHTTPRequestHandler, fault: Fault, data: bytes
) -> bytes:
    etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    etag = etag if fault.etag is None else fault.etag
    wanted, status, start = handler.headers.get("Range"), 200, 0
    headers = {"ETag": etag} if etag else {}
    condition = handler.headers.get("If-Range", etag)
    is_strong = not condition.startswith("W/")
    fits = not fault.ignore_range and condition == etag
    fits = fits and (is_strong or "If-Range" not in handler.headers)
    if wanted and fits:
        status, start = 206, int(wanted.removeprefix("bytes=").rstrip("-"))
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Content-Range"] = fault.content_range or content_range
    body = data[start:]
    if fault.flip_byte:
        body = body[:-1] + bytes([body[-1] ^ 1])
    if fault.endless:
        body += bytes(1 << 20)
    if fault.encoding is not None:
        headers["Content-Encoding"] = fault.encoding
    if fault.is_chunked:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(len(body) + fault.extra_length)
    _send_head(handler, status, headers)
    return body


def _send_head(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
