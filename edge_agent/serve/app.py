# SPDX-License-Identifier: Apache-2.0
"""The service as an ASGI application, without a framework.

Owns the way of one request: head checked, body received, route called, answer or error
sent. What the routes do is ``routes``' matter; sockets and time limits are
``protocol``'s.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from edge_agent.serve.body import BodyReader, GoneError, Message, Receive
from edge_agent.serve.coding import choose_coding, pack, unpack
from edge_agent.serve.guard import check_head
from edge_agent.serve.refusals import FailedError, find_status, format_error
from edge_agent.serve.routes import Answer, Call, Routes
from edge_contract.errors import EdgeError

Scope = Mapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
JSON_LENGTH: Final = b"inference-header-content-length"
_LOG = logging.getLogger(__name__)


class Application:
    """Answers requests; see ``edge_agent.serve.server`` for what runs it.

    Args:
        routes: What can be asked.
        max_request: Bytes of a body, packed and unpacked.
    """

    def __init__(self, routes: Routes, max_request: int) -> None:
        self._routes = routes
        self._max_request = max_request
        self._bodies = BodyReader(max_request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(scope, receive)
        except GoneError:
            return
        except EdgeError as error:
            answer = Answer(format_error(error), status=find_status(error))
        except Exception:  # noqa: BLE001 - a supervisor: our own fault is answered too
            _LOG.exception("%s %s failed", scope["method"], scope["path"][:200])
            fault = FailedError("service: this request met a fault of the agent's")
            answer = Answer(format_error(fault), status=fault.status)
        await _send(answer, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = check_head(scope["headers"], is_unix=scope["client"] is None)
        handler = self._routes.find(scope["method"], scope["path"])
        body = await self._bodies.read(headers.get(b"content-length"), receive)
        coding = headers.get(b"content-encoding", b"").decode("latin-1")
        if coding:
            body = await self._aside(unpack, body, coding, self._max_request)
        length = headers.get(JSON_LENGTH)
        answer = await handler(Call(body, None if length is None else _number(length)))
        wanted = choose_coding(headers.get(b"accept-encoding", b"").decode("latin-1"))
        if wanted is None:
            return answer
        return answer.packed(await self._aside(pack, answer.body, wanted), wanted)

    async def _aside(self, work: Callable[..., bytes], *arguments: Any) -> bytes:
        """Run what takes milliseconds and holds no lock of Python's off the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._routes.executor, work, *arguments)


def _number(text: bytes) -> int:
    """Return the number, or -1, which no length is."""
    return int(text) if text.isdigit() and len(text) < 20 else -1


async def _send(answer: Answer, send: Send) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": answer.body})
