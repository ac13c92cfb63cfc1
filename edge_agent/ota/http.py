# SPDX-License-Identifier: Apache-2.0
"""HTTP to the server: who may be spoken to, and how.

Owns the connection pool: TLS with the pinned certificate, or plain HTTP on loopback
only; no redirects, no retries, no compression. It is imported by short-lived
subprocesses alone.
"""

import ipaddress
import urllib.parse
from typing import Final

import urllib3

from edge_agent.errors import UpdateError
from edge_contract.enrolment import Enrolment

SOCKET_SECONDS: Final = 30.0


class HttpAccess:
    """Requests to the server of one enrolment.

    Raises:
        UpdateError: Plain HTTP to another machine.
    """

    def __init__(self, enrolment: Enrolment) -> None:
        url = urllib.parse.urlsplit(enrolment.api_url)
        if url.scheme == "https" and enrolment.certificate_pin is None:
            raise UpdateError(
                f"{enrolment.api_url}: expected a certificate pin in the enrolment",
                next_step="enrol again with a file from this server",
            )
        if url.scheme == "http" and not _is_loopback(url.hostname or ""):
            raise UpdateError(
                f"{enrolment.api_url}: expected https, because plain HTTP is for "
                "loopback only",
                next_step="enrol again with a file from a server that has TLS",
            )
        self.base = enrolment.api_url.rstrip("/")
        timeout = urllib3.Timeout(SOCKET_SECONDS)
        self._pool = (
            urllib3.PoolManager(timeout=timeout)
            if url.scheme == "http"
            else urllib3.PoolManager(
                timeout=timeout,
                assert_fingerprint=enrolment.certificate_pin,
                cert_reqs="CERT_NONE",
                assert_hostname=False,
            )
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the response with its body unread.

        Raises:
            urllib3.exceptions.HTTPError: The network or the certificate refused.
        """
        return self._pool.request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **(headers or {})},
            body=body,
            preload_content=False,
            redirect=False,
            retries=False,
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
