# SPDX-License-Identifier: Apache-2.0
"""uvicorn on a thread of its own, around sockets that are already bound.

Owns the event loop's life. Only this module and ``protocol`` import uvicorn (extra
``agent-http``).
"""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from socket import socket
from typing import Any, Final

import uvicorn

from edge_agent.config import ServiceConfig
from edge_agent.errors import ServeError
from edge_agent.serve.app import Application
from edge_agent.serve.guard import MAX_HEAD_BYTES
from edge_agent.serve.protocol import (
    Bounds,
    bound_protocol,
    find_parser,
    sweep_forever,
)

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 2
KEEP_ALIVE_SECONDS: Final = 75
ACCEPTS: Final = 64  # at once, before those that are accepted are served
BACKLOG: Final = 1024


class _Uvicorn(uvicorn.Server):
    """Waits for the end instead of looking ten times a second."""

    def __init__(
        self, config: uvicorn.Config, sockets: Sequence[socket], patience_seconds: float
    ) -> None:
        super().__init__(config)
        self._sockets = sockets
        self.ready = threading.Event()
        self.end: asyncio.Event | None = None
        self._patience_seconds = patience_seconds

    async def main_loop(self) -> None:
        """Serve until ``end``."""
        self.end = asyncio.Event()
        for one in self._sockets:  # asyncio knows one number for both
            one.listen(BACKLOG)
        sweep = asyncio.create_task(
            sweep_forever(self._connections, self._patience_seconds)
        )
        self.ready.set()
        await self.end.wait()
        sweep.cancel()

    def _connections(self) -> set[Any]:
        return self.server_state.connections


class HttpThread:
    """Serves an application on bound sockets.

    Args:
        application: Answers.
        sockets: Bound; closed with the thread.
        settings: Bounds.
        parser: One of ``protocol.PARSERS``; None takes the fastest there is.
    """

    def __init__(
        self,
        application: Application,
        sockets: Sequence[socket],
        settings: ServiceConfig,
        parser: str | None,
    ) -> None:
        patience_seconds = settings.patience.seconds
        bounds = Bounds(settings.connections, patience_seconds)
        config = uvicorn.Config(
            application,
            http=bound_protocol(parser or find_parser(), bounds),
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            backlog=ACCEPTS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        self._sockets = list(sockets)
        self._server = _Uvicorn(config, self._sockets, patience_seconds)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=self._run, name="edge-serve-http", daemon=True
        )

    def start(self) -> None:
        """Start, and wait until it accepts connections.

        Raises:
            ServeError: It does not.
        """
        self._thread.start()
        self._server.ready.wait(START_SECONDS)
        if self._server.end is None:
            msg = "service: the HTTP server did not start"
            raise ServeError(msg, next_step="the agent's log says why")

    def stop(self) -> None:
        """End the thread; what is being computed is answered first."""
        self._server.should_exit = True
        loop, end = self._loop, self._server.end
        if loop is not None and end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._server.serve(sockets=self._sockets))
            finally:
                self._server.ready.set()
