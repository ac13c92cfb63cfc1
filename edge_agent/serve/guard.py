# SPDX-License-Identifier: Apache-2.0
"""Who may ask: programs on this machine, and no web page.

Owns the rules on a request's head. A page that a browser on this machine shows can
reach loopback, and DNS rebinding lets it look like our own: its requests carry an
Origin, or a Host that is not this machine (OWASP, "DNS rebinding").
"""

from collections.abc import Mapping, Sequence
from typing import Final

from edge_agent.addresses import is_loopback
from edge_agent.serve.refusals import ForbiddenError, HeadTooLargeError, RefusedError

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 64
_USUAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
Headers = Sequence[tuple[bytes, bytes]]
_SINGLE: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"content-encoding",
        b"inference-header-content-length",
    }
)


def check_head(headers: Headers, *, is_unix: bool) -> Mapping[bytes, bytes]:
    """Check a request's headers and return them by name.

    Args:
        headers: Names in lower case.
        is_unix: Whether it came over the Unix socket, which no browser can reach.

    Raises:
        HeadTooLargeError: More than a client of ours sends.
        ForbiddenError: From a web page, or for another host.
        RefusedError: Headers that contradict each other.
    """
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
        msg = (
            f"request: expected at most {MAX_HEADERS} headers of {MAX_HEAD_BYTES} "
            f"bytes, found {len(headers)} of {size}"
        )
        raise HeadTooLargeError(msg)
    found = dict(headers)
    if len(found) < len(headers):
        _refuse_repeated(headers)
    if b"transfer-encoding" in found and b"content-length" in found:
        msg = "request: expected a length or chunks, found both"
        raise RefusedError(msg)
    if b"origin" in found:
        msg = "request: it carries an Origin: web pages are not answered"
        raise ForbiddenError(msg)
    if not is_unix:
        _check_host(found.get(b"host", b""))
    return found


def _refuse_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers if name in _SINGLE]
    if len(set(names)) < len(names):
        msg = "request: a header that must be single is there twice"
        raise RefusedError(msg)


def _check_host(host: bytes) -> None:
    text = host.decode("latin-1")
    name = text.rsplit(":", 1)[0] if not text.endswith("]") else text
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if name not in _USUAL and not is_loopback(name):
        msg = f"Host: expected localhost or a loopback address, found {text[:80]!r}"
        raise ForbiddenError(msg, next_step="ask for http://127.0.0.1 or localhost")
