# SPDX-License-Identifier: Apache-2.0
"""The service as a whole: sockets, an event loop in a thread of its own, gRPC.

Owns start and stop. It is the only module that the daemon needs; uvicorn and grpcio
are imported when it starts, and only what the settings ask for.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from socket import socket
from typing import Any, Final

from edge_agent.clock import Clock, SystemClock
from edge_agent.config import ServiceConfig
from edge_agent.errors import ServeError
from edge_agent.flow import Predictions, Repository
from edge_agent.serve.app import Application
from edge_agent.serve.inference import INLINE_NS, Inference
from edge_agent.serve.listen import open_loopback, open_unix
from edge_agent.serve.routes import Routes, Sources

WORKERS: Final = 4


class NoPredictions:
    """The service of a device where nothing was computed ahead."""

    @property
    def names(self) -> Sequence[str]:
        """No store."""
        return ()

    def find(self, store: str, key: str) -> Mapping[str, object] | None:  # noqa: ARG002
        """Return None."""
        return None


class Server:
    """The local service.

    Args:
        settings: Where it listens, and its bounds.
        repository: The models.
        metrics: Returns the text of ``/metrics``, in Prometheus' form.
        status: Returns the document of ``/edge/v1/status``.
        predictions: What was computed ahead.
        clock: For the time of the last inference.
        version: The agent's, for the server's metadata.
        inline_ns: See ``Inference``.
        parser: One of ``protocol.PARSERS``; None takes the fastest there is.
    """

    def __init__(  # noqa: PLR0913 - all but two have a default
        self,
        settings: ServiceConfig,
        repository: Repository,
        *,
        metrics: Callable[[], str],
        status: Callable[[], Mapping[str, Any]],
        predictions: Predictions | None = None,
        clock: Clock | None = None,
        version: str = "",
        inline_ns: int = INLINE_NS,
        parser: str | None = None,
    ) -> None:
        self._settings = settings
        self._executor = ThreadPoolExecutor(WORKERS, "edge-serve")
        self._inference = Inference(repository, self._executor, inline_ns=inline_ns)
        self._sources = Sources(
            metrics,
            status,
            predictions or NoPredictions(),
            clock or SystemClock(),
            version,
        )
        self._parser = parser
        self._open = ExitStack()
        self.http_address: tuple[str, int] | None = None
        self.grpc_address: tuple[str, int] | None = None

    def start(self) -> None:
        """Listen, and serve on a thread of its own.

        Raises:
            ServeError: An address is taken, or an extra is not installed.
        """
        with ExitStack() as stack:
            stack.callback(self._executor.shutdown)
            routes = Routes(
                self._inference,
                self._executor,
                self._sources,
                self._settings.max_json.bytes,
            )
            sockets = self._open_sockets(stack)
            if sockets:
                self._start_http(routes, sockets, stack)
            if self._settings.grpc is not None:
                self._start_grpc(routes, stack)
            self._open = stack.pop_all()

    def stop(self) -> None:
        """Answer what is being computed, then close everything; twice does nothing."""
        self._open.close()

    def _open_sockets(self, stack: ExitStack) -> list[socket]:
        sockets = []
        if self._settings.http is not None:
            listener = stack.enter_context(open_loopback(self._settings.http))
            self.http_address = listener.getsockname()[:2]
            sockets.append(listener)
        if self._settings.unix is not None:
            sockets.append(stack.enter_context(open_unix(self._settings.unix)))
            stack.callback(_forget, self._settings.unix)
        return sockets

    def _start_http(
        self, routes: Routes, sockets: list[socket], stack: ExitStack
    ) -> None:
        try:
            from edge_agent.serve.http_thread import HttpThread
        except ModuleNotFoundError as error:
            raise _missing(error, "agent-http") from error
        application = Application(routes, self._settings.max_request.bytes)
        thread = HttpThread(application, sockets, self._settings, self._parser)
        stack.callback(thread.stop)
        thread.start()

    def _start_grpc(self, routes: Routes, stack: ExitStack) -> None:
        try:
            from edge_agent.serve.grpc_server import start_grpc
        except ModuleNotFoundError as error:
            raise _missing(error, "agent-grpc") from error
        self.grpc_address, stop = start_grpc(self._settings, routes)
        stack.callback(stop)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _missing(error: ModuleNotFoundError, extra: str) -> ServeError:
    msg = f"service: the package {error.name} is not installed"
    return ServeError(msg, next_step=f"pip install 'edgeloop[{extra}]'")
