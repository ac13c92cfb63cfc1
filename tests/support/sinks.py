# SPDX-License-Identifier: Apache-2.0
"""What tests of sinks share: results, a disk without room, servers that misbehave."""

import json
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from edge_agent.errors import SinkError
from edge_agent.flow import Result

OUTPUT = np.array([0.25, 0.75], dtype=np.float32)
PATIENCE_SECONDS = 20.0


def make_result(name: str, stream: str = "s") -> Result:
    """A good result of two classes."""
    return Result(name, 5, "ab", OUTPUT, None, stream, (("run", 0.75),))


def await_true(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail after a while."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes: a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class ListOutlet:
    """Keeps results; fails or blocks when told to."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.batches: list[int] = []
        self.error: SinkError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.is_closed = False

    def put(self, results: Sequence[Result]) -> int:
        """Keep results."""
        self.gate.wait(PATIENCE_SECONDS)
        if self.error is not None:
            raise self.error
        self.ids += [one.id for one in results]
        self.batches.append(len(results))
        return len(results)

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


class Hook:
    """A web server that answers posts with the given statuses, then with 204."""

    def __init__(self, statuses: Sequence[int] = (), *, is_hung: bool = False) -> None:
        self.statuses = list(statuses)
        self.requests: list[dict[str, Any]] = []
        self.release = threading.Event()
        if not is_hung:
            self.release.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append(
                    {
                        "path": self.path,
                        "headers": dict(self.headers),
                        "ids": [one["id"] for one in json.loads(body)["results"]],
                    }
                )
                hook.release.wait(PATIENCE_SECONDS)
                self.send_response(hook.statuses.pop(0) if hook.statuses else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/results?a=b"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
