# SPDX-License-Identifier: Apache-2.0
"""Compressed bodies: gzip and deflate, bounded on the way in.

Owns which codings are taken and given. ``deflate`` is the zlib format (RFC 9110
section 8.4.1.2). A few bytes can unpack to gigabytes: never more than the bound does.
"""

import zlib
from typing import Final

from edge_agent.serve.refusals import RefusedError, TooLargeError, UnsupportedError

_GZIP_BITS: Final = 31
_ZLIB_BITS: Final = 15
_BITS: Final = {"gzip": _GZIP_BITS, "x-gzip": _GZIP_BITS, "deflate": _ZLIB_BITS}
_LEVEL: Final = 1  # the client is on this machine: time is dearer than bytes


def unpack(data: bytes, coding: str, most: int) -> bytes:
    """Unpack a body.

    Args:
        data: As it came.
        coding: The value of Content-Encoding; empty or ``identity`` for none.
        most: Bytes unpacked, at most.

    Raises:
        UnsupportedError: Another coding.
        RefusedError: Damaged, or followed by something else.
        TooLargeError: It unpacks to more.
    """
    name = coding.strip().lower()
    if name in {"", "identity"}:
        return data
    if name not in _BITS:
        msg = f"Content-Encoding: expected gzip or deflate, found {coding[:80]!r}"
        raise UnsupportedError(msg)
    unpacker = zlib.decompressobj(_BITS[name])
    try:
        unpacked = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        msg = f"body: expected {name}, found: {error}"
        raise RefusedError(msg) from error
    if len(unpacked) > most:
        msg = f"body: expected at most {most} bytes unpacked, found more"
        raise TooLargeError(msg, next_step="raise service.max_request")
    if not unpacker.eof or unpacker.unused_data:
        msg = f"body: expected one whole {name} stream, found another length"
        raise RefusedError(msg)
    return unpacked


def choose_coding(accepted: str) -> str | None:
    """Return the coding of an answer, from Accept-Encoding.

    Only where a client names one alone: a list is what HTTP libraries send by
    themselves, and on one machine compression costs more than it saves.

    >>> choose_coding("gzip"), choose_coding("gzip, deflate, br")
    ('gzip', None)
    """
    name = accepted.strip().lower()
    return name if name in {"gzip", "deflate"} else None


def pack(data: bytes, coding: str) -> bytes:
    """Return ``data`` in a coding that ``choose_coding`` chose."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _BITS[coding])
    return packer.compress(data) + packer.flush()
