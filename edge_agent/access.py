# SPDX-License-Identifier: Apache-2.0
"""Who may be spoken to: the server of the enrolment, by its pinned certificate.

Owns that plain connections are for loopback only, the pinned TLS context, and
HTTP requests: no redirects, no retries, no compression. urllib3 is imported only when a
request object is made: the resident agent never loads it.
"""

import hashlib
import hmac
import ssl
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from edge_agent.addresses import is_loopback
from edge_agent.errors import LinkError
from edge_contract.enrolment import Enrolment

if TYPE_CHECKING:
    import urllib3

SOCKET_SECONDS: Final = 30.0
MAX_SECRET: Final = 4096


def read_secret(path: Path) -> str:
    """Return the text of a file that holds a password or a token and nothing else.

    Raises:
        LinkError: It cannot be read, or holds another thing.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected a file with a secret, found: {error}"
        raise LinkError(
            msg, next_step="write it, readable by the agent alone"
        ) from error
    if not text or len(text) > MAX_SECRET or not text.isprintable():
        msg = f"{path}: expected one line of up to {MAX_SECRET} characters"
        raise LinkError(msg, next_step="write the secret and nothing else")
    return text


class PinnedSocket(ssl.SSLSocket):
    """A TLS socket that ends the handshake unless the certificate is the pinned one."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002
        """Shake hands, then compare the certificate, before any byte is sent."""
        super().do_handshake(block)
        pin = getattr(self.context, "pin", "")
        found = hashlib.sha256(self.getpeercert(binary_form=True) or b"").hexdigest()
        if not hmac.compare_digest(found, pin):
            self.close()  # paho would leave it open
            msg = f"expected the certificate with sha256 {pin}, found {found}"
            raise ssl.SSLCertVerificationError(msg)


class PinnedContext(ssl.SSLContext):
    """TLS that trusts exactly one certificate, whoever signed it."""

    pin: str
    sslsocket_class = PinnedSocket


def pinned_context(pin: str) -> ssl.SSLContext:
    """Return a client context that accepts only the certificate with this SHA-256."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.pin = pin.lower()
    return context


class HttpAccess:
    """Requests to one server.

    Args:
        base: Its address.
        pin: SHA-256 of its certificate, in hex; None over plain HTTP.

    Raises:
        LinkError: Plain HTTP to another machine, or TLS without a pin.
    """

    def __init__(self, base: str, pin: str | None) -> None:
        import urllib3

        url = urllib.parse.urlsplit(base)
        is_pinned = url.scheme == "https" and pin is not None
        is_local = url.scheme == "http" and is_loopback(url.hostname or "")
        if not (is_pinned or is_local):
            raise LinkError(
                f"{base}: expected https with a certificate pin; plain "
                "HTTP is for loopback only",
                next_step="enrol again with a file from a server that has TLS",
            )
        self.base = base.rstrip("/")
        timeout = urllib3.Timeout(SOCKET_SECONDS)
        self._pool = (
            urllib3.PoolManager(timeout=timeout)
            if url.scheme == "http"
            else urllib3.PoolManager(
                timeout=timeout,
                assert_fingerprint=pin,
                cert_reqs="CERT_NONE",
                assert_hostname=False,
            )
        )

    @classmethod
    def of(cls, enrolment: Enrolment) -> Self:
        """Return the access to the server of an enrolment."""
        return cls(enrolment.api_url, enrolment.certificate_pin)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> "urllib3.BaseHTTPResponse":
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
