# SPDX-License-Identifier: Apache-2.0
import bz2
import lzma
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.canonical import encode_json
from edge_contract.delta import CODECS, MAGIC, Delta, Stretch, apply_delta, encode_delta
from edge_contract.errors import DeltaError

SOURCE = bytes(range(200))
DELTA = Delta((Stretch(50, 3, 10), Stretch(100, 0)), bytes([1] * 150), b"new")
TARGET = bytes(range(1, 51)) + b"new" + bytes(range(61, 161))


def apply(data: bytes, source: bytes = SOURCE, length: int = len(TARGET)) -> bytes:
    out = BytesIO()
    apply_delta(BytesIO(data), BytesIO(source), out, length)
    return out.getvalue()


@pytest.mark.parametrize("codec", CODECS)
def test_stretches_add_and_insert(codec: str) -> None:
    assert apply(encode_delta(DELTA, codec)) == TARGET


@pytest.mark.parametrize(
    ("stretches", "problem"),
    [
        ((Stretch(-1, 5),), "a stretch of -1"),
        ((Stretch(0, 0),) * 2**18, "at most 262144 stretches"),
        ((Stretch(10, 0, -20), Stretch(140, 3)), "before the source's start"),
        ((Stretch(10, 0, 2**62), Stretch(140, 3)), "source is shorter"),
        ((Stretch(150, 3), Stretch(1, 0)), "found more"),
        ((Stretch(150, 2),), "found 152"),
        ((Stretch(153, 0),), "source is shorter|part is shorter"),
    ],
)
def test_stretches_that_lie_are_refused(
    stretches: tuple[Stretch, ...], problem: str
) -> None:
    data = encode_delta(Delta(stretches, DELTA.difference, DELTA.new), "xz")
    with pytest.raises(DeltaError, match=problem):
        apply(data, SOURCE[:150])


def test_a_bomb_writes_no_more_than_was_asked_for() -> None:
    bomb = encode_delta(Delta((Stretch(0, 2**40),), b"", bytes(2**20)), "bz2")
    out = BytesIO()
    with pytest.raises(DeltaError, match="expected 1000 bytes to come out"):
        apply_delta(BytesIO(bomb), BytesIO(), out, 1000)
    assert out.getvalue() == b""


def test_what_is_left_over_is_refused() -> None:
    more = Delta(DELTA.stretches, DELTA.difference + b"x", DELTA.new)
    with pytest.raises(DeltaError, match="longer than its stretches"):
        apply(encode_delta(more, "bz2"))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"codec": "zip", "parts": [1, 1, 1]},
        {"codec": "xz", "parts": [1, 1]},
        {"codec": "xz", "parts": [1, -1, 1]},
        {"codec": "xz", "parts": ["1", "1", "1"]},
        {"codec": "xz", "parts": 3},
    ],
)
def test_headers_that_are_not_ours_are_refused(header: dict[str, object]) -> None:
    wire = encode_json(header)
    with pytest.raises(DeltaError):
        apply(MAGIC + len(wire).to_bytes(2, "little") + wire + bz2.compress(b""))


@given(st.data())
def test_damaged_deltas_raise_only_our_error(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from(CODECS))
    whole = bytearray(encode_delta(DELTA, codec))
    cut = data.draw(st.integers(0, len(whole)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(whole), bytes(whole[:cut])):
        try:
            apply(damaged)
        except DeltaError:
            continue


def test_the_difference_of_floats_is_predicted_from_the_place_in_a_number() -> None:
    random = np.random.default_rng(3)
    before = random.normal(size=5000).astype("<f4")
    after = before * random.normal(1, 0.03, 5000).astype("<f4")
    source, target = before.tobytes(), after.tobytes()
    difference = (np.frombuffer(target, "u1") - np.frombuffer(source, "u1")).tobytes()
    delta = Delta((Stretch(len(target), 0, 0),), difference, b"")

    encoded = encode_delta(delta, "xz")

    assert len(encoded) < 0.95 * len(lzma.compress(difference, preset=9))
    assert apply(encoded, source, len(target)) == target
