# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.enrolment import Enrolment
from edge_contract.errors import EnrolmentError, GoldenError, StepError
from edge_contract.golden import GoldenVectors, Tolerance, compare
from edge_contract.steps import Framer, apply_post, check_post

GOLDEN = np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32)
LSB = Tolerance("lsb", 2 / 256, 0.05)


def test_within_tolerance_passes_and_beyond_it_fails() -> None:
    near = compare(GOLDEN + np.float32(0.007), GOLDEN, LSB)
    far = compare(GOLDEN + np.float32(0.02), GOLDEN, LSB)

    assert (near.ok, near.disagreements) == (True, 0)
    assert not far.ok


def test_garbage_is_caught_by_sqnr_and_by_the_winner() -> None:
    result = compare(GOLDEN[:, ::-1], GOLDEN, Tolerance("sqnr", 40.0, 0.05))

    assert (result.ok, result.disagreements) == (False, 2)


def test_a_nan_never_passes() -> None:
    result = compare(np.full_like(GOLDEN, np.nan), GOLDEN, Tolerance("lsb", 1e9, 2))

    assert (result.ok, result.finite) == (False, False)


def test_another_shape_is_an_error() -> None:
    with pytest.raises(GoldenError, match="shape"):
        compare(GOLDEN[:1], GOLDEN, LSB)


def test_vectors_round_trip() -> None:
    vectors = GoldenVectors(np.ones((2, 3, 1), np.float32), {"a": GOLDEN}, {"a": LSB})

    again = GoldenVectors.decode(vectors.encode())

    assert again.encode() == vectors.encode()
    assert again.tolerances == {"a": LSB}


@pytest.mark.parametrize(
    "vectors",
    [
        GoldenVectors(np.ones((3, 1), np.float32), {"a": GOLDEN}, {"a": LSB}),
        GoldenVectors(np.ones((2, 1), np.float32), {"a": GOLDEN}, {}),
        GoldenVectors(np.full((2, 1), np.nan, np.float32), {"a": GOLDEN}, {"a": LSB}),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors: GoldenVectors) -> None:
    with pytest.raises(GoldenError):
        GoldenVectors.decode(vectors.encode())


@given(
    st.integers(1, 8),
    st.data(),
    st.lists(st.integers(0, 9), max_size=12),
)
def test_frames_are_the_same_however_the_rows_arrive(
    length: int, data: st.DataObject, chunks: list[int]
) -> None:
    hop = data.draw(st.integers(1, length))
    rows = np.arange(sum(chunks), dtype=np.float32)[:, np.newaxis]
    framer, frames, start = Framer(length, hop), [], 0
    for size in chunks:
        frames += framer.push(rows[start : start + size])
        start += size

    ends = list(range(length, len(rows) + 1, hop))
    assert [one.end_row for one in frames] == ends
    assert all(
        one.data[:, 0].tolist() == list(range(end - length, end))
        for one, end in zip(frames, ends, strict=True)
    )
    observed = [
        int(row) for one in frames for row in one.data[length - one.new_rows :, 0]
    ]
    assert observed == list(range(ends[-1] if ends else 0))


@pytest.mark.parametrize(("length", "hop"), [(0, 0), (4, 0), (4, 5)])
def test_a_frame_that_cannot_be_is_refused(length: int, hop: int) -> None:
    with pytest.raises(StepError):
        Framer(length, hop)


def test_rows_of_another_width_are_refused() -> None:
    framer = Framer(2, 1)
    framer.push(np.zeros((1, 3), np.float32))

    with pytest.raises(StepError, match=r"\[n, 3\]"):
        framer.push(np.zeros((1, 2), np.float32))


def test_post_steps_apply_in_order_and_unknown_ones_are_refused() -> None:
    check_post([{"step": "softmax"}])
    with pytest.raises(StepError, match="update this program"):
        check_post([{"step": "quantum"}])
    with pytest.raises(StepError):
        check_post([{"step": "softmax", "axis": "1"}])

    result = apply_post([{"step": "softmax"}], np.array([[1e4, -1e4]], np.float32))

    assert result.tolist() == [[1.0, 0.0]]


def make_enrolment() -> Enrolment:
    return Enrolment(
        "default", "watch-3", bytes(32), 1, b"{}", "127.0.0.1", 1883, "http://127.0.0.1"
    )


def test_enrolment_round_trip_is_private_and_never_overwrites(tmp_path: Path) -> None:
    enrolment = make_enrolment()
    enrolment.save(tmp_path / "e.json")

    assert Enrolment.from_json((tmp_path / "e.json").read_bytes()) == enrolment
    assert (tmp_path / "e.json").stat().st_mode & 0o777 == 0o600
    assert "key" not in repr(enrolment)
    with pytest.raises(FileExistsError):
        enrolment.save(tmp_path / "e.json")


@pytest.mark.parametrize(
    "change",
    [
        (b'"format": 1', b'"format": 2'),
        (b'"default"', b'"De fault"'),
        (b'"AAAA', b'"A'),
        (b'"epoch": 1', b'"epoch": 0'),
        (b'"epoch": 1', b'"epoch": "1"'),
        (b"1883", b"99999"),
        (b"http:", b"ftp:"),
        (b'"127.0.0.1"', b"7"),
        (b"{", b""),
        (b'"tags": {}', b'"tags": []'),
    ],
)
def test_malformed_enrolments_are_refused(change: tuple[bytes, bytes]) -> None:
    data = make_enrolment().to_json().replace(*change, 1)

    with pytest.raises(EnrolmentError, match="edge-fleet device add"):
        Enrolment.from_json(data)


@pytest.mark.parametrize(
    "logits",
    [
        [0.5, -1.25, 3.0],
        [0.0],
        [79.0, -79.0],
        [200.0, 199.0, -300.0],
        [-90.0, -91.0],
        [np.inf, 1.0],
        [1.0, np.nan],
        [np.nan, 1.0],
        [-np.inf, 0.0],
        list(np.linspace(-5, 5, 100)),
    ],
)
def test_softmax_of_one_row_is_that_of_a_batch_of_one(logits: list[float]) -> None:
    row = np.array(logits, dtype=np.float32)
    steps = ({"step": "softmax"},)

    found, expected = apply_post(steps, row), apply_post(steps, row[np.newaxis])[0]

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
