# SPDX-License-Identifier: Apache-2.0
"""The ``webhook`` sink: batches of results, posted as JSON.

Owns the request and which answers mean what: 2xx is taken, 408, 425, 429 and 5xx are
tried again, any other is a refusal. A batch that is tried again carries the same
``Idempotency-Key``. Redirects are not followed: the secret is for one server.
"""

import hashlib
import http.client
import json
import ssl
import urllib.parse
from collections.abc import Sequence
from typing import Final

from edge_agent.access import read_secret
from edge_agent.addresses import is_loopback
from edge_agent.config.sinks import WebhookSinkConfig
from edge_agent.errors import SinkError, SinkRefusedError
from edge_agent.flow import Result
from edge_agent.sinks.lines import describe_result

MAX_ANSWER_BYTES: Final = 64 * 1024
_AGAIN: Final = {408, 425, 429}
_FAILURES: Final = (OSError, http.client.HTTPException, ValueError)


class WebhookOutlet:
    """Posts results, one connection a batch.

    Args:
        config: What it was told.

    Raises:
        SinkError: No address that can be posted to, or a secret in plain text.
        LinkError: The secret's file cannot be read.
    """

    def __init__(self, config: WebhookSinkConfig) -> None:
        self._url = _parse_url(config)
        self._timeout = config.timeout.seconds
        self._tls: ssl.SSLContext | None = None
        if self._url.scheme == "https":
            self._tls = _context(config)
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": "edgeloop-agent",
        }
        if config.secret_file is not None:
            self._headers[config.header] = read_secret(config.secret_file)

    def put(self, results: Sequence[Result]) -> int:
        """Post results; see ``Outlet.put``.

        Raises:
            SinkError: The server is not there, is silent, or asks to try again.
            SinkRefusedError: The server refuses the batch.
        """
        document = {"results": [describe_result(one) for one in results]}
        body = json.dumps(document, separators=(",", ":")).encode()
        try:
            status = self._post(body)
        except _FAILURES as error:
            msg = f"webhook {self._url.netloc}: {type(error).__name__}: {error}"
            raise SinkError(msg, next_step="check the server and the url") from error
        if 200 <= status < 300:
            return len(results)
        msg = f"webhook {self._url.netloc}: expected 2xx, found {status}"
        if status in _AGAIN or status >= 500:
            raise SinkError(msg, next_step="check the server")
        raise SinkRefusedError(msg, next_step="check the url and the secret")

    def close(self) -> None:
        """Do nothing: no connection is kept."""

    def visit(self) -> str:
        """Connect, and leave again without a request; return who answered.

        Raises:
            SinkError: The server is not there, or not who it should be.
        """
        connection = self._connection()
        try:
            connection.connect()
        except _FAILURES as error:
            msg = f"webhook {self._url.netloc}: {type(error).__name__}: {error}"
            raise SinkError(msg, next_step="check the server and the url") from error
        finally:
            connection.close()
        return f"webhook {self._url.netloc} answers"

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        return http.client.HTTPSConnection(
            host, port, timeout=self._timeout, context=self._tls
        )

    def _post(self, body: bytes) -> int:
        connection = self._connection()
        key = hashlib.sha256(body).hexdigest()
        path = urllib.parse.urlunsplit(
            ("", "", self._url.path or "/", self._url.query, "")
        )
        try:
            headers = {**self._headers, "Idempotency-Key": key}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_BYTES)
            return answer.status
        finally:
            connection.close()


def _parse_url(config: WebhookSinkConfig) -> urllib.parse.SplitResult:
    try:
        url = urllib.parse.urlsplit(config.url)
        is_good = bool(url.hostname) and url.port != 0 and url.username is None
        is_good = is_good and url.scheme in {"http", "https"}
    except ValueError as error:
        raise _no_address(config.url) from error
    if not is_good:
        raise _no_address(config.url)
    is_safe = url.scheme == "https" or is_loopback(url.hostname or "")
    if config.secret_file is not None and not is_safe:
        msg = f"webhook {url.netloc}: expected https, because a secret is given"
        raise SinkError(msg, next_step="use https, or leave secret_file out")
    return url


def _no_address(url: str) -> SinkError:
    msg = f"webhook: expected an address like https://host/path, found {url!r}"
    return SinkError(msg, next_step="correct the sink's url")


def _context(config: WebhookSinkConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ssl.SSLError) as error:
        msg = f"webhook: ca_file {config.ca_file}: {error}"
        raise SinkError(msg, next_step="name a file of certificates (PEM)") from error
