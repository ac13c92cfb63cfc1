# SPDX-License-Identifier: Apache-2.0
"""uvicorn's HTTP connection, bounded in time, in bytes and in number.

Owns what uvicorn leaves open: a head that never ends, a body that trickles, an answer
that nobody reads, and more connections than a device has room for. The parser is
httptools' where it has a wheel (64-bit; bench ``agent_service``), else h11's.
"""

import asyncio
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from edge_agent.serve.guard import MAX_HEAD_BYTES
from edge_agent.serve.refusals import (
    HeadTooLargeError,
    RefusedError,
    TimedOutError,
    UnreadyError,
    format_error,
)

PARSERS: Final = ("httptools", "h11")
MAX_PIPELINED: Final = 64
SWEEPS: Final = 4  # looks at each connection in the time that it has


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one server grants.

    Attributes:
        connections: At a time.
        patience_seconds: From the first byte of a request to its last, and for reading
            its answer.
    """

    connections: int
    patience_seconds: float


class Bounded:
    """Mixed into one of uvicorn's connection classes; see ``bound_protocol``."""

    bounds: Bounds
    connections: set[Any]
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Strangers' mistakes are answered, not logged.
        self.logger = logging.Logger(__name__, logging.CRITICAL)  # noqa: LOG001
        self.access_log = False
        self.changed = 0.0  # when its state did
        self._head_bytes = 0
        self._has_part = True

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Make room for a connection, or refuse it."""
        super().connection_made(transport)  # type: ignore[misc]
        self.changed = self.loop.time()
        if len(self.connections) > self.bounds.connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and watch how long the head takes to end."""
        if not self._has_part and self._is_idle:
            self.changed = self.loop.time()
            self._has_part, self._head_bytes = True, 0
        before = self.cycle
        super().data_received(data)  # type: ignore[misc]
        if self.cycle is not before:
            self._has_part = False
            self.changed = self.loop.time()
        elif self._has_part:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                msg = f"request: expected a head of at most {MAX_HEAD_BYTES} bytes"
                self._refuse(HeadTooLargeError(msg))
        # uvicorn's httptools connection reads on while answers are not read; h11's not.
        if len(getattr(self, "pipeline", ())) > MAX_PIPELINED:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Note when the answer was handed over."""
        self.changed = self.loop.time()
        super().on_response_complete()  # type: ignore[misc]

    def send_400_response(self, _: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(RefusedError("request: expected HTTP/1.1"))

    def sweep(self) -> None:
        """End the connection where its time is over."""
        if self.loop.time() - self.changed < self.bounds.patience_seconds:
            return
        is_stuck = self.transport.is_closing() or bool(
            self.transport.get_write_buffer_size()
        )
        if self.is_serving and not is_stuck:
            return
        if self._is_idle and not self._has_part and not is_stuck:
            return  # kept alive: uvicorn's own timer ends that
        cycle = self.cycle
        is_silent = cycle is None and not self._head_bytes
        if is_stuck or is_silent or (cycle and cycle.response_complete):
            self.transport.abort()
        else:
            self._refuse(TimedOutError("request: it did not arrive in time"))

    @property
    def is_serving(self) -> bool:
        """Whether a whole request waits for its answer."""
        cycle = self.cycle
        return bool(cycle and not cycle.more_body and not cycle.response_complete)

    @property
    def _is_idle(self) -> bool:
        """Whether no request has begun; after an early refusal its body still comes."""
        cycle = self.cycle
        return cycle is None or (cycle.response_complete and not cycle.more_body)

    def _make_room(self) -> None:
        """End the connection that has done nothing for longest, maybe this one."""
        waiting = [one for one in self.connections if not one.is_serving]
        oldest = min(waiting, key=lambda one: one.changed)
        if oldest is self:
            self._refuse(UnreadyError("service: too many connections"))
            return
        self.connections.discard(oldest)
        oldest.transport.abort()

    def _refuse(self, error: RefusedError) -> None:
        if self.transport.is_closing():
            return
        body = format_error(error)
        head = (
            f"HTTP/1.1 {error.status} \r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bound_protocol(parser: str, bounds: Bounds) -> type[asyncio.Protocol]:
    """Return uvicorn's connection class for a parser, with bounds.

    Args:
        parser: One of ``PARSERS``.
        bounds: Of one server.
    """
    if parser == "httptools":
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Parser
    else:
        from uvicorn.protocols.http.h11_impl import (  # type: ignore[assignment]
            H11Protocol as Parser,
        )
    made = type("BoundedProtocol", (Bounded, Parser), {"bounds": bounds})
    return cast("type[asyncio.Protocol]", made)


def find_parser() -> str:
    """Return the fastest parser that is installed."""
    has_fast = importlib.util.find_spec("httptools") is not None
    return PARSERS[0] if has_fast else PARSERS[1]


async def sweep_forever(
    connections: Callable[[], set[Any]], patience_seconds: float
) -> None:
    """End what is over its time, until cancelled."""
    while True:
        await asyncio.sleep(patience_seconds / SWEEPS)
        for one in list(connections()):
            one.sweep()
