# SPDX-License-Identifier: Apache-2.0
"""One server of ``bench.agent_service``: ours, or FastAPI around the same model.

``python -m bench.harness.service_process KIND FOLDER FLOATS OPTIONS`` prints one line
of JSON with its address, and serves until it is ended.
"""

import json
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from edge_agent.addresses import Address
from edge_agent.config import ServiceConfig, Size
from edge_agent.flow import Float32, ModelCard, Result
from edge_agent.serve.server import Server

CLASSES: Final = 2  # what the model itself takes is no matter of the service's


class OneModel:
    """A linear model in numpy, the cheapest real one: repository and slot in one."""

    names = ("main",)

    def __init__(self, floats: int) -> None:
        random = np.random.default_rng(0)
        self._weights = random.normal(size=(floats, CLASSES)).astype(np.float32)
        self.card = ModelCard(
            *("linear", "ab" * 32, "float32", "reference", "", "numpy"),
            *("input", (1, floats), "output", (1, CLASSES), ()),
        )

    def slot(self, name: str) -> "OneModel | None":
        """Return itself."""
        return self if name in self.names else None

    def infer(self, frame: Float32, request_id: str) -> Result:
        """Run the model once."""
        output: Float32 = (frame @ self._weights)[0]
        return Result(request_id, 0, self.card.digest, output, None)

    def load(self, name: str) -> None:
        """Do nothing: it serves for ever."""

    def unload(self, name: str) -> None:
        """Do nothing: it serves for ever."""

    def feedback(
        self, name: str, labels: Sequence[tuple[str, str | int]]
    ) -> dict[str, int]:
        """Take none: there are no classes."""
        del name, labels
        return {"taken": 0}


class Body(BaseModel):
    """A tensor as JSON."""

    data: list[float]


def serve_ours(folder: Path, floats: int, options: dict[str, Any]) -> None:
    """Serve with ``edge_agent.serve``, JSON of any size."""
    unix = Path(tempfile.mkdtemp(dir=folder)) / "s"
    config = ServiceConfig(
        http=Address("127.0.0.1", 0), unix=unix, max_json=Size(16 * 1024**2)
    )
    server = Server(config, OneModel(floats), metrics=str, status=dict, **options)
    server.start()
    assert server.http_address is not None  # noqa: S101 - it has started
    _say({"port": server.http_address[1], "unix": str(unix)})
    signal.sigwait({signal.SIGTERM})
    server.stop()


def serve_fastapi(floats: int) -> None:
    """Serve with FastAPI as its documentation does it, on the same parser and loop."""
    model = OneModel(floats)
    app = FastAPI()

    @app.post("/binary")
    async def infer_binary(request: Request) -> Response:
        frame = np.frombuffer(await request.body(), "<f4").reshape(1, -1)
        output = model.infer(frame, "").output
        return Response(None if output is None else output.tobytes())

    @app.post("/json")
    async def infer_json(body: Body) -> dict[str, list[float]]:
        output = model.infer(np.array([body.data], np.float32), "").output
        return {"output": [] if output is None else output.tolist()}

    # As ours: the protocol is named, so that asyncio sets TCP_NODELAY.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    _say({"port": listener.getsockname()[1]})
    config = uvicorn.Config(
        app, http="httptools", loop="asyncio", log_level="warning", access_log=False
    )
    listener.listen()
    uvicorn.Server(config).run(sockets=[listener])


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    kind, folder, floats, options = sys.argv[1:]
    if kind == "ours":
        serve_ours(Path(folder), int(floats), json.loads(options))
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        serve_fastapi(int(floats))
