# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import ReferenceModelError
from edge_contract.reference_model import (
    LEAF,
    MAX_BYTES,
    MAX_DEPTH,
    Linear,
    Link,
    ReferenceModel,
    Trees,
)


def f32(*values: Any) -> Any:
    return np.array(values, np.float32)


def two_trees(**changed: Any) -> Trees:
    """x0 <= 0.5 gives (1, 0), else (0, 1); and a tree that is a leaf of (10, 20)."""
    arrays = {
        "roots": np.array([0, 3], np.int32),
        "features": np.array([0, LEAF, LEAF, LEAF], np.int32),
        "thresholds": f32(0.5, 0, 0, 0),
        "below": np.array([1, 0, 1, 2], np.int32),
        "above": np.array([2, 0, 0, 0], np.int32),
        "missing_below": np.array([1, 0, 0, 0], np.uint8),
        "values": f32([1, 0], [0, 1], [10, 20]),
        "base": f32(100, 200),
    }
    return Trees(**(arrays | changed), depth=1)


def test_trees_add_their_leaves_to_the_base() -> None:
    model = ReferenceModel(2, two_trees())
    rows = f32([0.5, 9], [np.nextafter(np.float32(0.5), np.float32(1)), 9], [np.nan, 9])
    expected = [[111, 220], [110, 221], [111, 220]]
    assert model.infer(rows).tolist() == expected
    assert ReferenceModel.decode(model.encode()).infer(rows).tolist() == expected


def test_a_missing_value_goes_above_where_it_was_not_trained_otherwise() -> None:
    trees = two_trees(missing_below=np.zeros(4, np.uint8))
    assert ReferenceModel(2, trees).infer(f32([np.nan, 0])).tolist() == [[110, 221]]


def test_an_affine_step_comes_first_in_float32() -> None:
    body = Linear(f32([1, 10]), f32(0.5))
    model = ReferenceModel(2, body, affine=(f32(1, 2), f32(2, 3)))
    assert ReferenceModel.decode(model.encode()).infer(f32([3, 3])).tolist() == [[34.5]]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("none", [[0.0, 2.0]]),
        ("softmax", [[0.11920292, 0.88079708]]),
        ("logistic", [[0.5, 0.88079708]]),
    ],
)
def test_links(link: Link, expected: list[list[float]]) -> None:
    model = ReferenceModel(1, Linear(f32([0], [2]), f32(0, 0)), link)
    np.testing.assert_allclose(model.infer(f32([1])), expected, atol=1e-7)


def test_a_pair_is_one_score_of_the_second_class() -> None:
    model = ReferenceModel(1, Linear(f32([2]), f32(0)), "pair")
    assert model.outputs == 2
    np.testing.assert_allclose(
        model.infer(f32([1])), [[0.11920292, 0.88079708]], atol=1e-7
    )


def test_links_hold_at_the_ends_of_float32() -> None:
    rows = f32([-1e38], [1e38])
    for link in ("softmax", "logistic"):
        model = ReferenceModel(1, Linear(f32([1], [0]), f32(0, 0)), link)
        assert np.isfinite(model.infer(rows)).all()


def chain(length: int) -> Trees:
    """One tree, each node's below a leaf, as deep as long."""
    nodes = np.arange(length)
    features = np.concatenate([np.zeros(length), np.full(length + 1, LEAF)])
    below = np.concatenate([nodes + length, np.arange(length + 1)])
    above = np.concatenate([nodes + 1, np.zeros(length + 1)])
    above[length - 1] = 2 * length
    return Trees(
        roots=np.array([0], np.int32),
        features=features.astype(np.int32),
        thresholds=np.zeros(2 * length + 1, np.float32),
        below=below.astype(np.int32),
        above=above.astype(np.int32),
        missing_below=np.zeros(2 * length + 1, np.uint8),
        values=np.ones((length + 1, 1), np.float32),
        base=f32(0),
    )


def test_depth_is_found_and_bounded() -> None:
    found = ReferenceModel.decode(ReferenceModel(1, chain(MAX_DEPTH)).encode())
    assert isinstance(found.body, Trees)
    assert found.body.depth == MAX_DEPTH
    assert found.infer(f32([1])).tolist() == [[1.0]]
    with pytest.raises(ReferenceModelError, match=f"deeper than {MAX_DEPTH}"):
        ReferenceModel.decode(ReferenceModel(1, chain(MAX_DEPTH + 1)).encode())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": np.array([2, -1, -1, -1], np.int32)}, "features"),
        ({"features": np.array([-2, -1, -1, -1], np.int32)}, "features"),
        ({"features": np.array([0, -1, -1], np.int32)}, "one length"),
        ({"roots": np.array([4], np.int32)}, "roots"),
        ({"roots": np.array([], np.int32)}, "trees"),
        ({"below": np.array([0, 0, 1, 2], np.int32)}, "children"),
        ({"below": np.array([1, 3, 1, 2], np.int32)}, "children"),
        ({"below": np.array([1, -1, 1, 2], np.int32)}, "children"),
        ({"above": np.array([4, 0, 0, 0], np.int32)}, "children"),
        ({"missing_below": np.array([2, 0, 0, 0], np.uint8)}, "missing"),
        ({"base": f32(1, 2, 3, 4)}, "reshape"),
        ({"values": f32([1, 0], [0, np.inf], [10, 20])}, "finite"),
        ({"thresholds": f32(np.nan, 0, 0, 0)}, "thresholds"),
    ],
)
def test_inconsistent_trees_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceModelError, match=message):
        ReferenceModel.decode(ReferenceModel(2, two_trees(**changed)).encode())


def wire() -> dict[int, Any]:
    found: dict[int, Any] = decode_cbor(
        ReferenceModel(2, Linear(f32([1, 2]), f32(3))).encode(), max_bytes=MAX_BYTES
    )
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {1: 2},
        {2: 0},
        {2: 2**40},
        {2: True},
        {3: "probit"},
        {3: []},
        {4: []},
        {4: [b"", b""]},
        {5: [1, b"1234", b"1234"]},
        {5: [0, b"", b""]},
        {5: 7},
        {6: []},
        {3: "pair", 5: [2, b"\0" * 16, b"\0" * 8]},
        {5: [1, b"\xff" * 8, b"\0" * 4]},
    ],
)
def test_a_wrong_field_is_refused(changed: dict[int, Any]) -> None:
    assert ReferenceModel.decode(encode_cbor(wire())).infer(f32([1, 1]))[0, 0] == 6
    with pytest.raises(ReferenceModelError, match="malformed"):
        ReferenceModel.decode(encode_cbor(wire() | changed))


def test_unknown_keys_are_ignored_and_others_are_not_maps() -> None:
    assert ReferenceModel.decode(encode_cbor(wire() | {99: 1})).inputs == 2
    for value in (1, [1], "text", {}, {1: 1}):
        with pytest.raises(ReferenceModelError):
            ReferenceModel.decode(encode_cbor(value))


def test_the_backend_refuses_other_shapes_and_files() -> None:
    from edge_agent.errors import BackendError
    from edge_agent.runtime.backend import find_backend

    module = find_backend("reference")
    assert module.runtime_version() == "1"
    backend = module.load_model(
        replace(ReferenceModel(2, two_trees()), link="softmax").encode(), threads=1
    )
    assert (backend.input_shape, backend.output_shape) == ((1, 2), (1, 2))
    assert backend.infer(f32([0, 0])).dtype == np.float32
    with pytest.raises(BackendError, match=r"expected \[1, 2\], found \[1, 3\]"):
        backend.infer(np.zeros((1, 3), np.float32))
    with pytest.raises(BackendError, match="cannot be loaded"):
        module.load_model(b"no model", threads=1)
