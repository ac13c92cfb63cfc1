# SPDX-License-Identifier: Apache-2.0
"""Dataclasses as CBOR maps with integer keys, checked field by field.

Owns how a message body is laid out: each dataclass field names its integer key and
its kind. No key is ever reused, unknown keys are ignored, a missing key of a field
with a default takes that default. It does not know the messages; see ``messages``.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import CanonicalError, MessageError

Scalar = str | int | bool | None
_MAX_INTEGER = 2**63 - 1
_TEXT_KEY_CHARACTERS = 64
_MAX_ENTRIES = 256


@dataclass(frozen=True, slots=True)
class Kind:
    """How one field's value is checked on its way in, and what it is in words."""

    words: str
    check: Callable[[Any], Any]


def at(key: int, kind: Kind, **options: Any) -> Any:
    """Declare a dataclass field that travels under ``key``."""
    return field(metadata={"key": key, "kind": kind}, **options)


def _require(*, condition: bool) -> None:
    if not condition:
        raise ValueError


def _integer(value: Any) -> int:
    _require(condition=type(value) is int and 0 <= value <= _MAX_INTEGER)
    return int(value)


def _boolean(value: Any) -> bool:
    _require(condition=type(value) is bool)
    return bool(value)


def _mapping(value: Any, check: Callable[[Any], Any]) -> dict[str, Any]:
    _require(condition=type(value) is dict and len(value) <= _MAX_ENTRIES)
    for key in value:
        _require(condition=type(key) is str and 0 < len(key) <= _TEXT_KEY_CHARACTERS)
    return {key: check(one) for key, one in value.items()}


def _argument(value: Any) -> Any:
    if type(value) is list:
        _require(condition=len(value) <= _MAX_ENTRIES)
        return [_scalar(one) for one in value]
    return _scalar(value)


def _scalar(value: Any) -> Scalar:
    if type(value) is str:
        _require(condition=len(value) <= 1024)
        return value
    if type(value) is int:
        _require(condition=-_MAX_INTEGER <= value <= _MAX_INTEGER)
        return value
    _require(condition=type(value) is bool or value is None)
    return bool(value) if value is not None else None


def exact_bytes(length: int) -> Kind:
    """Return the kind of byte strings of exactly ``length``."""

    def check(value: Any) -> bytes:
        _require(condition=type(value) is bytes and len(value) == length)
        return bytes(value)

    return Kind(f"{length} bytes", check)


def text(longest: int, *, among: tuple[str, ...] = ()) -> Kind:
    """Return the kind of texts up to ``longest`` characters, or of the given words."""

    def check(value: Any) -> str:
        _require(condition=type(value) is str and len(value) <= longest)
        _require(condition=not among or value in among)
        return str(value)

    words = f"one of {', '.join(among)}" if among else f"a text of at most {longest}"
    return Kind(words, check)


def mapping(kind: Kind) -> Kind:
    """Return the kind of maps from text to ``kind``."""
    return Kind(f"a map to {kind.words}", lambda value: _mapping(value, kind.check))


def sequence(kind: Kind, longest: int) -> Kind:
    """Return the kind of tuples (CBOR arrays) of ``kind``."""

    def check(value: Any) -> tuple[Any, ...]:
        _require(condition=type(value) is list and len(value) <= longest)
        return tuple(kind.check(one) for one in value)

    return Kind(f"at most {longest} of {kind.words}", check)


def record(*kinds: Kind) -> Kind:
    """Return the kind of fixed-length tuples with one kind an element."""

    def check(value: Any) -> tuple[Any, ...]:
        _require(condition=type(value) is list and len(value) == len(kinds))
        return tuple(kind.check(one) for kind, one in zip(kinds, value, strict=True))

    return Kind(f"[{', '.join(kind.words for kind in kinds)}]", check)


def bounded_bytes(longest: int) -> Kind:
    """Return the kind of byte strings up to ``longest``."""

    def check(value: Any) -> bytes:
        _require(condition=type(value) is bytes and len(value) <= longest)
        return bytes(value)

    return Kind(f"at most {longest} bytes", check)


INTEGER = Kind("an integer from 0 to 2**63 - 1", _integer)
BOOLEAN = Kind("true or false", _boolean)
SCALAR = Kind("a text, integer, boolean or null", _scalar)
ARGUMENT = Kind("a scalar or a list of scalars", _argument)


def _layout(cls: type) -> tuple[tuple[str, int, Kind, bool], ...]:
    return tuple(
        (
            one.name,
            one.metadata["key"],
            one.metadata["kind"],
            one.default is MISSING and one.default_factory is MISSING,
        )
        for one in fields(cls)
    )


def to_wire(message: Any) -> bytes:
    """Encode a dataclass whose fields were declared with ``at``.

    Raises:
        MessageError: A field holds what its own decoder would refuse.
    """
    body: dict[int, Any] = {}
    for name, key, kind, _ in _layout(type(message)):
        value = _plain(getattr(message, name))
        _checked(type(message), name, kind, value)
        body[key] = value
    return encode_cbor(body)


def from_wire(cls: type, data: bytes, max_bytes: int) -> Any:
    """Decode a dataclass whose fields were declared with ``at``.

    Raises:
        MessageError: Not canonical, a key is missing, or a value is out of its kind.
    """
    try:
        body = decode_cbor(data, max_bytes=max_bytes)
    except CanonicalError as error:
        msg = f"{cls.__name__}: {error}"
        raise MessageError(msg) from error
    if type(body) is not dict:
        msg = f"{cls.__name__}: expected a map, found {type(body).__name__}"
        raise MessageError(msg)
    values = {}
    for name, key, kind, required in _layout(cls):
        if key in body:
            values[name] = _checked(cls, name, kind, body[key])
        elif required:
            msg = f"{cls.__name__}: key {key} ({name}) is missing"
            raise MessageError(msg)
    return cls(**values)


def _checked(cls: type, name: str, kind: Kind, value: Any) -> Any:
    try:
        return kind.check(value)
    except ValueError as error:
        msg = (
            f"{cls.__name__}: {name}: expected {kind.words}, "
            f"found {type(value).__name__}"
        )
        raise MessageError(msg) from error


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value
