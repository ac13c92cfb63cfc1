# SPDX-License-Identifier: Apache-2.0
import pytest

from edge_contract.canonical import decode_cbor, decode_json, encode_cbor, encode_json
from edge_contract.errors import CanonicalError


def decode(hex_bytes: str) -> object:
    return decode_cbor(bytes.fromhex(hex_bytes), max_bytes=64)


def test_map_keys_sort_by_length_then_bytes() -> None:
    assert encode_cbor({"a": 1, 1000: 2, 3: 4}).hex() == "a303046161011903e802"


@pytest.mark.parametrize(
    "hex_bytes",
    [
        pytest.param("", id="nothing"),
        pytest.param("6361", id="truncated text"),
        pytest.param("19ff", id="truncated argument"),
        pytest.param("0101", id="two values"),
        pytest.param("c11a514b67b0", id="tag: datetime"),
        pytest.param("d8236161", id="tag: regular expression"),
        pytest.param("c249010000000000000000", id="big number tag"),
        pytest.param("f93c00", id="half float"),
        pytest.param("fb3ff0000000000000", id="double float"),
        pytest.param("f7", id="undefined"),
        pytest.param("ff", id="break"),
        pytest.param("9f01ff", id="indefinite array"),
        pytest.param("7f6161ff", id="indefinite text"),
        pytest.param("1801", id="long form of a small integer"),
        pytest.param("a202010102", id="keys out of order"),
        pytest.param("a201010102", id="the same key twice"),
        pytest.param("a18001", id="a map key that is an array"),
        pytest.param("a1a001", id="a map key that is a map"),
        pytest.param("9b000000003b9aca00", id="a billion entries"),
        pytest.param("5b7fffffffffffffff", id="a string past the end"),
        pytest.param("61ff", id="text that is not UTF-8"),
        pytest.param("81" * 9 + "01", id="nested too deep"),
    ],
)
def test_refused_cbor(hex_bytes: str) -> None:
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
