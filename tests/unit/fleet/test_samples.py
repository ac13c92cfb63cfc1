# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.canonical import encode_cbor
from edge_contract.errors import EdgeError
from fleet.errors import RequestError
from fleet.samples.chunk import parse_chunk

GOOD: dict[int, Any] = {
    1: [3, 2],
    2: "<f4",
    3: np.arange(6, dtype="<f4").tobytes(),
    4: [["a", 1], ["b", 2]],
    5: np.array([4, 5, 6], dtype="<i4").tobytes(),
    6: ["ax", "ay"],
    7: 2,
}


def test_a_chunk_is_read() -> None:
    chunk = parse_chunk(encode_cbor(GOOD), max_bytes=1000)

    assert chunk.x.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert chunk.recording == ("a", "b", "b")
    assert chunk.y is not None
    assert chunk.y.tolist() == [4, 5, 6]
    assert (chunk.names, chunk.chunks) == (("ax", "ay"), 2)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        (1, [3], "ValueError"),
        (1, [4, 2], "length of x"),
        (1, [0, 2], "count 0"),
        (2, "<f8", "dtype '<f8'"),
        (3, b"", "length of x"),
        (4, [["a", 2]], "sum of the recordings' rows"),
        (4, [["a", 2**40]], "rows of a recording"),
        (4, [[1, 3]], "name 1"),
        (5, b"1", "length of y"),
        (6, ["ax"], "number of names"),
        (7, 0, "count 0"),
    ],
)
def test_an_inconsistent_chunk_is_refused(key: int, value: object, found: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chunk(encode_cbor(GOOD | {key: value}), max_bytes=1000)

    assert found in str(caught.value)


@given(st.binary(max_size=60))
def test_foreign_bytes_raise_only_our_errors(data: bytes) -> None:
    with pytest.raises(EdgeError):
        parse_chunk(data, max_bytes=1000)


@given(
    st.sampled_from(list(GOOD)),
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 2**40) | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=6,
    ),
)
def test_any_value_under_any_key_is_read_or_refused(key: int, value: object) -> None:
    try:
        chunk = parse_chunk(encode_cbor(GOOD | {key: value}), max_bytes=10_000)
    except EdgeError:
        return
    assert len(chunk.recording) == len(chunk.x)
