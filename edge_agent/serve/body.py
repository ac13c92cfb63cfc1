# SPDX-License-Identifier: Apache-2.0
"""Receiving bodies: bounded one by one, and all together.

Owns the memory that requests may hold while they arrive. It parses nothing.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from edge_agent.serve.refusals import RefusedError, TooLargeError, UnreadyError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
SHARE: Final = 4


class GoneError(Exception):
    """The client left before its request was complete; there is nobody to answer."""


class BodyReader:
    """Receives the bodies of one server's requests.

    Args:
        most: Bytes of one body; all together may hold ``SHARE`` times as many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    async def read(self, length: bytes | None, receive: Receive) -> bytes:
        """Receive one body.

        Args:
            length: The Content-Length, if there is one.
            receive: ASGI's.

        Raises:
            TooLargeError: It is longer than one may be.
            UnreadyError: Too many arrive at a time.
            GoneError: The client left.
        """
        self._check_length(length)
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise GoneError
                part: bytes = message.get("body", b"")
                parts.append(part)
                size += len(part)
                self._held += len(part)
                self._check_size(size)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
        finally:
            self._held -= size

    def _check_length(self, length: bytes | None) -> None:
        if length is None:
            return
        if not length.isdigit():  # ASCII digits only: these are bytes
            msg = "Content-Length: expected a whole number"
            raise RefusedError(msg)
        # Longer texts are not converted: int() of a megabyte of digits takes a while.
        self._check_size(int(length[:20]))

    def _check_size(self, size: int) -> None:
        if size > self._most:
            msg = f"body: expected at most {self._most} bytes, found more"
            raise TooLargeError(msg, next_step="raise service.max_request")
        if self._held > SHARE * self._most:
            msg = "service: too many large requests at a time"
            raise UnreadyError(msg, next_step="send it again")
