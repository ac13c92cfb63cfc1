# SPDX-License-Identifier: Apache-2.0
"""The command line's way to a running server.

Owns finding the server (``run.json`` of a state folder, or an address and a token
file), the token header, and turning answers into values or errors. It knows no route.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edge_contract.errors import EXIT_FAILED
from fleet.errors import ClientError, RemoteError
from fleet.state import short_address

_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is and the token that it accepts.

    Through ``socket``, where it is named, no token is needed, and the server knows the
    operating system's user by name.
    """

    url: str
    token: str
    socket: Path | None = None


class FleetClient:
    """A connection to one server's REST API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str, **query: str | int | None) -> Any:
        """GET ``/api/v1`` + ``path``; return the JSON document."""
        return self._request("GET", path, params=_without_none(query)).json()

    def get_bytes(self, path: str) -> bytes:
        """GET ``/api/v1`` + ``path``; return the body."""
        return self._request("GET", path).content

    def stream_file(self, path: str) -> Iterator[bytes]:
        """GET a published file, whose ``path`` is outside the API; yield its body."""
        with self._answered(), self._http.stream("GET", path) as response:
            if not response.is_success:
                response.read()
                raise _error_from(response)
            yield from response.iter_raw()

    def post(self, path: str, document: dict[str, Any]) -> Any:
        """POST a JSON document; return the answer's."""
        return self._request("POST", path, json=document).json()

    def put_bytes(self, path: str, content: bytes) -> Any:
        """PUT bytes; return the answer's JSON document."""
        return self._request("PUT", path, content=content).json()

    def post_parts(self, path: str, parts: dict[str, bytes]) -> Any:
        """POST named byte strings as one multipart form; return the JSON document."""
        files = {name: (name, content) for name, content in parts.items()}
        return self._request("POST", path, files=files).json()

    def _request(self, method: str, path: str, **how: Any) -> httpx.Response:
        with self._answered():
            response = self._http.request(method, "/api/v1" + path, **how)
        if response.is_success:
            return response
        raise _error_from(response)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            message = f"server {self._http.base_url}: no answer: {error}"
            step = "check that `edge-fleet serve` runs on this state folder"
            raise ClientError(message, next_step=step) from error


@contextmanager
def open_client(address: ServerAddress) -> Iterator[FleetClient]:
    """Give a client of the server at ``address``.

    Raises:
        ClientError: The folder of its socket is not there.
    """
    headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    with ExitStack() as stack:
        transport = None
        if address.socket is not None:
            folder = _open_folder(address.socket)
            stack.callback(os.close, folder)
            local = short_address(folder, address.socket.name)
            transport = httpx.HTTPTransport(uds=local)
        http = httpx.Client(
            base_url=address.url,
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
            transport=transport,
        )
        yield FleetClient(stack.enter_context(http))


def _open_folder(path: Path) -> int:
    try:
        return os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        message = f"{path}: expected a server's socket: {error.strerror}"
        raise ClientError(message, next_step="check the path of --socket") from error


def read_address(run_file: Path) -> ServerAddress:
    """Read the address of the server that wrote ``run_file``.

    Raises:
        ClientError: No server runs on that state folder.
    """
    try:
        document = json.loads(run_file.read_text(encoding="utf-8"))
        # Through the socket the server knows who asks; a token has one name for all.
        local = Path(document["socket"])
        return ServerAddress(
            document["url"], document["token"], local if local.exists() else None
        )
    except FileNotFoundError as error:
        message = f"{run_file.parent}: expected a running server, found none"
        step = f"run `edge-fleet serve --state {run_file.parent}` first"
        raise ClientError(message, next_step=step) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{run_file}: expected the address of a server, found: {error}"
        raise ClientError(message, next_step="restart the server") from error


def _error_from(response: httpx.Response) -> RemoteError:
    try:
        body = response.json()["error"]
        return RemoteError(
            str(body["message"]),
            next_step=str(body["next_step"]),
            code=str(body["code"]),
            exit_code=int(body["exit_code"]),
        )
    except (ValueError, KeyError, TypeError):
        return RemoteError(
            f"server: {response.request.url.path}: status {response.status_code}",
            next_step="look into the server's log",
            code="fleet.client",
            exit_code=EXIT_FAILED,
        )


def _without_none(query: dict[str, str | int | None]) -> dict[str, str | int]:
    return {name: value for name, value in query.items() if value is not None}
