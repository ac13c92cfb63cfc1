# SPDX-License-Identifier: Apache-2.0
"""One byte string for one value: canonical CBOR, canonical JSON, digests.

Owns the encoding rules of docs/spec/encoding.md. CBOR is length-first canonical
(RFC 7049 section 3.9) without tags, indefinite lengths or floats; JSON has sorted
keys, no spaces and no floats. A real number is a decimal string in JSON and a block
of little-endian float32 in CBOR. Decoders accept only bytes that re-encode to
themselves, check size, depth and kinds before anything is built, and raise only
``CanonicalError``.

It does not know what any value means; see ``messages``, ``profile``, ``manifest``.
"""

import hashlib
import json
from typing import Any

import cbor2

from edge_contract.errors import CanonicalError

MAX_DEPTH = 8
_MAJOR_BYTES = 2
_MAJOR_TEXT = 3
_MAJOR_ARRAY = 4
_MAJOR_MAP = 5
_MAJOR_SIMPLE = 7
_KEY_MAJORS = frozenset({0, 1, _MAJOR_TEXT, _MAJOR_BYTES})
_SIMPLE_ALLOWED = frozenset({20, 21, 22})  # false, true, null
_IMMEDIATE = 24  # a smaller argument is the value itself
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the SHA-256 digest of ``data`` as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def encode_cbor(value: Any) -> bytes:
    """Encode ``value`` (int, bool, None, str, bytes, list, dict) canonically.

    Raises:
        CanonicalError: The value holds a float, a number beyond 64 bits, or anything
            else that our rules leave out.

    >>> encode_cbor({10: b"x", 1: [True, None]}).hex()
    'a20182f5f60a4178'
    """
    data = encode_checked(value)
    _scan_cbor(data, MAX_DEPTH)
    return data


def encode_checked(value: Any) -> bytes:
    """Encode what the caller has checked: whole numbers of 64 bits, no floats.

    Raises:
        CanonicalError: The value cannot be encoded at all.
    """
    try:
        return cbor2.dumps(value, canonical=True)
    except (cbor2.CBOREncodeError, ValueError, TypeError, OverflowError) as error:
        msg = f"CBOR: a value cannot be encoded: {error}"
        raise CanonicalError(msg) from error


def decode_cbor(
    data: bytes,
    *,
    max_bytes: int,
    max_depth: int = MAX_DEPTH,
) -> Any:
    """Decode canonical CBOR.

    Args:
        data: Exactly one encoded value.
        max_bytes: Longer input is refused before it is looked at.
        max_depth: Deepest nesting of arrays and maps.

    Raises:
        CanonicalError: The bytes are too long, not well-formed, not canonical, nested
            too deep, or hold a tag, a float or an indefinite length.
    """
    if len(data) > max_bytes:
        msg = f"CBOR: expected at most {max_bytes} bytes, found {len(data)}"
        raise CanonicalError(msg)
    _scan_cbor(data, max_depth)
    try:
        value = cbor2.loads(data)
        again = cbor2.dumps(value, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError) as error:
        msg = f"CBOR: not well-formed: {error}"
        raise CanonicalError(msg) from error
    if again != data:
        msg = "CBOR: expected the canonical encoding, found another one"
        raise CanonicalError(msg)
    return value


def _scan_cbor(data: bytes, max_depth: int) -> None:  # noqa: C901, PLR0915  one pass
    """Refuse, without building anything, what ``cbor2`` must never see."""
    end = len(data)
    position = 0
    pending: list[tuple[int, bool]] = []  # items still due, in a map?
    due, in_map = 1, False
    while due:
        if position >= end:
            msg = f"CBOR: truncated after {end} bytes"
            raise CanonicalError(msg)
        initial = data[position]
        major, argument = initial >> 5, initial & 31
        position += 1
        if in_map and not due & 1 and major not in _KEY_MAJORS:
            msg = f"CBOR: byte {position - 1}: a map key must be an integer or a string"
            raise CanonicalError(msg)
        if argument >= _IMMEDIATE:
            argument, position = _read_argument(data, position, major, argument)
        due -= 1
        if _MAJOR_BYTES <= major <= _MAJOR_TEXT:
            position += argument
            if position > end:
                msg = f"CBOR: a string of {argument} bytes passes the end of the data"
                raise CanonicalError(msg)
        elif _MAJOR_ARRAY <= major <= _MAJOR_MAP:
            if len(pending) >= max_depth:
                msg = f"CBOR: nested deeper than {max_depth}"
                raise CanonicalError(msg)
            items = argument * (major - 3)  # a map holds two items an entry
            if items > end - position:
                msg = f"CBOR: {argument} entries cannot fit in {end - position} bytes"
                raise CanonicalError(msg)
            pending.append((due, in_map))
            due, in_map = items, major == _MAJOR_MAP
        elif major > _MAJOR_MAP and not (
            major == _MAJOR_SIMPLE and argument in _SIMPLE_ALLOWED
        ):
            msg = f"CBOR: byte {position - 1}: tags, floats and other simple values"
            raise CanonicalError(msg + " are refused")
        while not due and pending:
            due, in_map = pending.pop()
    if position != end:
        msg = f"CBOR: expected one value, found {end - position} bytes after it"
        raise CanonicalError(msg)


def _read_argument(
    data: bytes, position: int, major: int, info: int
) -> tuple[int, int]:
    size = _ARGUMENT_BYTES.get(info)
    if size is None or major == _MAJOR_SIMPLE:
        msg = f"CBOR: byte {position - 1}: indefinite lengths and floats are refused"
        raise CanonicalError(msg)
    if position + size > len(data):
        msg = f"CBOR: truncated after {len(data)} bytes"
        raise CanonicalError(msg)
    return int.from_bytes(data[position : position + size], "big"), position + size


def encode_json(value: Any) -> bytes:
    """Encode ``value`` as canonical JSON: UTF-8, sorted keys, no spaces, no floats.

    Raises:
        CanonicalError: The value holds a float, or something that JSON lacks.

    >>> encode_json({"b": ["0.5"], "a": 1})
    b'{"a":1,"b":["0.5"]}'
    """
    _refuse_floats(value, MAX_DEPTH)
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            sort_keys=True,
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"JSON: a value cannot be encoded: {error}"
        raise CanonicalError(msg) from error


def decode_json(data: bytes, *, max_bytes: int) -> Any:
    """Decode canonical JSON.

    Raises:
        CanonicalError: The bytes are too long, not JSON, or not canonical.
    """
    if len(data) > max_bytes:
        msg = f"JSON: expected at most {max_bytes} bytes, found {len(data)}"
        raise CanonicalError(msg)
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        msg = f"JSON: not well-formed: {error}"
        raise CanonicalError(msg) from error
    if encode_json(value) != data:
        msg = "JSON: expected the canonical encoding, found another one"
        raise CanonicalError(msg)
    return value


def _refuse_constant(name: str) -> None:
    msg = f"{name} is no JSON number"
    raise ValueError(msg)


def _refuse_floats(value: object, depth: int) -> None:
    if isinstance(value, float):
        msg = "JSON: floats are refused; write a real number as a decimal string"
        raise CanonicalError(msg)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            msg = "JSON: every key must be a string"
            raise CanonicalError(msg)
        children = list(value.values())
    elif isinstance(value, (list, tuple)):
        children = list(value)
    else:
        return
    if depth == 0:
        msg = f"JSON: nested deeper than {MAX_DEPTH}"
        raise CanonicalError(msg)
    for child in children:
        _refuse_floats(child, depth - 1)
