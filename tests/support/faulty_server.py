# SPDX-License-Identifier: Apache-2.0
"""A file server over HTTP with ranges, which misbehaves as it is told.

Each fault is used up by one request for a target below ``models/`` or ``deltas/``.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """How one response goes wrong."""

    cut_after: int | None = None
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
def serve_files(folder: Path) -> Iterator[FaultyServer]:
    """Serve ``folder`` while the block runs."""
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
    if fault.status is not None or not path.is_file():
        headers = {"Content-Length": "0"}
        if fault.retry_after is not None:
            headers["Retry-After"] = fault.retry_after
        _send_head(handler, fault.status or 404, headers)
        return
    body = _send_file_head(handler, fault, path.read_bytes())
    sent = body if fault.cut_after is None else body[: fault.cut_after]
    if is_target:
        state.body_bytes += len(sent)
    handler.close_connection = fault.cut_after is not None
    try:
        handler.wfile.write(sent)
        handler.wfile.flush()
    except (BrokenPipeError, ConnectionResetError):
        handler.close_connection = True


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
    etag = fault.etag or f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    wanted, status, start = handler.headers.get("Range"), 200, 0
    headers = {"ETag": etag}
    fits = not fault.ignore_range and handler.headers.get("If-Range") == etag
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
    headers["Content-Length"] = str(len(body))
    _send_head(handler, status, headers)
    return body


def _send_head(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
