# SPDX-License-Identifier: Apache-2.0
"""The service's application, called as uvicorn calls it, without a socket."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from edge_agent.flow import Predictions, Repository
from edge_agent.serve.app import Application
from edge_agent.serve.inference import Inference
from edge_agent.serve.routes import Routes, Sources
from edge_agent.serve.server import NoPredictions
from tests.support.manual_clock import ManualClock

LOCAL = (b"host", b"127.0.0.1:8080")


class HereExecutor(Executor):
    """Runs what it is given at once, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as the real one does
            future.set_exception(error)
        return future


@dataclass(frozen=True)
class Reply:
    """What the application sent."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class AsgiClient:
    """Calls an application around a repository."""

    def __init__(
        self,
        repository: Repository,
        *,
        predictions: Predictions | None = None,
        max_request: int = 1024**2,
        max_json: int = 64 * 1024,
    ) -> None:
        self.executor = HereExecutor()
        self.routes = Routes(
            Inference(repository, self.executor),
            self.executor,
            Sources(
                lambda: "edge_up 1\n",
                lambda: {"serving": "main"},
                predictions or NoPredictions(),
                ManualClock(),
                "0.0.0",
            ),
            max_json,
        )
        self.app = Application(self.routes, max_request)

    def get(self, path: str, *headers: tuple[bytes, bytes]) -> Reply:
        return self.call("GET", path, b"", headers)

    def post(self, path: str, body: Any = b"", *headers: tuple[bytes, bytes]) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", path, data, headers)

    def call(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        client: tuple[str, int] | None = ("127.0.0.1", 1),
    ) -> Reply:
        """Send one request; Host is added where it is not given."""
        told = list(headers)
        if not any(name == b"host" for name, _ in told):
            told.append(LOCAL)
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": told,
            "client": client,
        }
        return asyncio.run(self._exchange(scope, body))

    async def _exchange(self, scope: Mapping[str, Any], body: bytes) -> Reply:
        sent: list[Any] = []
        parts = [body[:100], body[100:]]

        async def receive() -> dict[str, Any]:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, content = sent
        return Reply(start["status"], dict(start["headers"]), content["body"])
