# SPDX-License-Identifier: Apache-2.0
import pytest

from edge_contract.canonical import decode_cbor, decode_json, encode_cbor, encode_json
from edge_contract.errors import CanonicalError


def decode(hex_bytes: str) -> object:
    return decode_cbor(bytes.fromhex(hex_bytes), max_bytes=64)


def test_map_keys_sort_by_length_then_bytes() -> None:
    assert encode_cbor({"a": 1, 1000: 2, 3: 4}).hex() == "a3030461610119 03e802".replace(
        " ", ""
    )


@pytest.mark.parametrize(
    ("name", "hex_bytes"),
    [
        ("nothing", ""),
        ("truncated text", "6361"),
        ("truncated argument", "19ff"),
        ("two values", "0101"),
        ("tag: datetime", "c11a514b67b0"),
        ("tag: regular expression", "d82361 61".replace(" ", "")),
        ("big number tag", "c249010000000000000000"),
        ("half float", "f93c00"),
        ("double float", "fb3ff0000000000000"),
        ("undefined", "f7"),
        ("break", "ff"),
        ("indefinite array", "9f01ff"),
        ("indefinite text", "7f6161ff"),
        ("long form of a small integer", "1801"),
        ("keys out of order", "a2020101 02".replace(" ", "")),
        ("the same key twice", "a201010102"),
        ("a map key that is an array", "a18001"),
        ("a map key that is a map", "a1a001"),
        ("a billion entries", "9b000000003b9aca00"),
        ("a string past the end", "5b7fffffffffffffff"),
        ("text that is not UTF-8", "61ff"),
        ("nested too deep", "81" * 9 + "01"),
    ],
)
def test_refused_cbor(name: str, hex_bytes: str) -> None:
    with pytest.raises(CanonicalError):
        decode(hex_bytes)


def test_nesting_up_to_the_bound_is_read() -> None:
    assert decode("81" * 8 + "01") == [[[[[[[[1]]]]]]]]


def test_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(CanonicalError, match="at most 64 bytes, found 65"):
        decode_cbor(b"\xff" * 65, max_bytes=64)


@pytest.mark.parametrize("value", [1.5, 2**64, {1: 2.0}, object(), {1, 2}])
def test_values_that_cbor_must_not_hold(value: object) -> None:
    with pytest.raises(CanonicalError):
        encode_cbor(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":NaN}',
        b'{"a":"\\u0041"}',
        b'"\xff"',
        b"[" * 500 + b"]" * 500,
        b"9" * 5000,
    ],
)
def test_refused_json(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        decode_json(data, max_bytes=10_000)


def test_json_round_trip_keeps_unicode() -> None:
    value = {"é": ["0.5", None, True, -3], "a": {}}

    assert decode_json(encode_json(value), max_bytes=100) == value
