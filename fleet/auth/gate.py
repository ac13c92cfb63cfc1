# SPDX-License-Identifier: Apache-2.0
"""The gate in front of every HTTP request and WebSocket.

Owns the decision who passes: closed unless a path was declared open. A bearer token
opens everything, and so does the server's Unix socket, whose file says who may. A
browser turns ``?token=`` into a cookie once; the cookie opens the dashboard and
reading, never a change through the REST API (another site could ride on it). It knows
nothing of what lies behind.
"""

import re
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.auth.answers import error_response
from fleet.auth.peer import PEER
from fleet.auth.tokens import TokenBook
from fleet.errors import UnauthorizedError

_READING = frozenset({"GET", "HEAD"})
_API = "/api/"


class TokenGate:
    """ASGI middleware that lets only holders of a token pass.

    Args:
        app: What lies behind the gate.
        book: The tokens.
        open_paths: Pairs of HTTP method and pattern for the whole path that need none.
    """

    def __init__(
        self, app: ASGIApp, *, book: TokenBook, open_paths: Iterable[tuple[str, str]]
    ) -> None:
        self._app = app
        self._book = book
        self._open = [(method, re.compile(pattern)) for method, pattern in open_paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] not in {"http", "websocket"} or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        actor = self._find_actor(scope)
        if actor is not None:
            scope.setdefault("state", {})["actor"] = actor
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer_stranger(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        method, path = scope.get("method"), scope["path"]
        return any(
            method == allowed and pattern.fullmatch(path) is not None
            for allowed, pattern in self._open
        )

    def _find_actor(self, scope: Scope) -> str | None:
        peer = scope.get("state", {}).get(PEER)
        if peer is not None:
            return str(peer)
        connection = HTTPConnection(scope)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._book.find_actor(token)
        path: str = scope["path"]
        if path.startswith(_API) and scope.get("method") not in _READING:
            return None
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(connection.headers.get("cookie", ""))
        except CookieError:
            return None
        morsel = cookies.get(self._book.cookie_name)
        return None if morsel is None else self._book.find_actor(morsel.value)

    async def _answer_stranger(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request = Request(scope)
        query = parse_qsl(request.url.query, keep_blank_values=True)
        token = dict(query).get("token", "")
        if request.method == "GET" and self._book.find_actor(token) is not None:
            rest = urlencode([part for part in query if part[0] != "token"])
            # A target of two slashes would be another host.
            target = "/" + request.url.path.lstrip("/") + (f"?{rest}" if rest else "")
            response = RedirectResponse(target, status_code=303)
            response.set_cookie(
                self._book.cookie_name, token, httponly=True, samesite="strict"
            )
            await response(scope, receive, send)
            return
        answer = error_response(make_unauthorized(request.url.path))
        await answer(scope, receive, send)


def make_unauthorized(path: str) -> UnauthorizedError:
    """Return the error for a request without a valid token."""
    return UnauthorizedError(
        f"{path}: expected a valid token, found none",
        next_step="open the address that `edge-fleet serve` printed, or send the "
        "token of run.json as a bearer token",
    )
