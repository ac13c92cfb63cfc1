# SPDX-License-Identifier: Apache-2.0
"""ONNX's own linear and tree operators in the reference runtime, and their refusals."""

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from converter.emit.reference import emit_reference
from converter.errors import ConvertOperatorError
from converter.ort.normalise import normalise
from converter.runtimes import open_engine
from edge_contract.reference_model import ReferenceModel
from tests.support.onnx_graphs import chain, node, normal, onnx_bytes

ROWS = normal(40, 3)
ML = {"domain": "ai.onnx.ml"}
SCALER = ("Scaler", "", {"offset": [0.5, 1, -1], "scale": [2.0, 0.5, 1], **ML})
LINEAR = (
    "LinearRegressor",
    "",
    {"coefficients": [1.0, 2, 3], "intercepts": [4.0], **ML},
)


def trees(kind: str = "TreeEnsembleRegressor", **changed: Any) -> NodeProto:
    """One tree: x0 <= 0 gives 1; else x1 <= 0.5 gives 2, else 3."""
    part = "target" if kind == "TreeEnsembleRegressor" else "class"
    given: dict[str, Any] = {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4],
        "nodes_featureids": [0, 0, 1, 0, 0],
        "nodes_values": [0.0, 0.0, 0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 3, 0, 0],
        "nodes_falsenodeids": [2, 0, 4, 0, 0],
        f"{part}_treeids": [0, 0, 0],
        f"{part}_nodeids": [1, 3, 4],
        f"{part}_ids": [0, 0, 0],
        f"{part}_weights": [1.0, 2.0, 3.0],
        **({"n_targets": 1} if part == "target" else {"classlabels_int64s": [0, 1]}),
    }
    outputs = "y" if part == "target" else "label y"
    return node(kind, "x", outputs, **(given | changed), **ML)


def reference(nodes: list[NodeProto], weights: Any = None) -> tuple[Any, Any]:
    """Return what ONNX Runtime gives, and what the reference runtime gives."""
    model = normalise(onnx_bytes(nodes, (1, 3), weights), source="m")
    found = ReferenceModel.decode(emit_reference(model)).infer(ROWS)
    expected = open_engine("onnxruntime", model.content, "plain").run(ROWS)
    if model.post == ("softmax",):
        powers = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected = powers / powers.sum(axis=1, keepdims=True)
    return expected, found


@pytest.mark.parametrize(
    "nodes",
    [
        chain(LINEAR),
        chain(SCALER, LINEAR),
        chain(("Gemm", "w b", {"transB": 1})),
        chain(("MatMul", "m", {}), ("Add", "b", {}), ("Softmax", "", {"axis": 1})),
        chain(("Mul", "k", {}), ("Add", "k", {}), LINEAR),
        chain(("Sub", "k", {}), LINEAR),
        chain(("Mul", "k", {}), LINEAR),
        [trees()],
        [trees(nodes_modes=["BRANCH_LT", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"])],
        [trees(base_values=[0.5])],
        [trees("TreeEnsembleClassifier", post_transform="LOGISTIC")],
        [trees("TreeEnsembleClassifier", class_weights=[0.25, 0.5, 1.0])],
        [
            trees(
                "TreeEnsembleClassifier",
                classlabels_int64s=[0, 1, 2],
                class_ids=[0, 1, 2],
                post_transform="SOFTMAX",
            )
        ],
    ],
)
def test_it_computes_what_onnx_runtime_computes(nodes: list[NodeProto]) -> None:
    weights = {
        "w": normal(2, 3),
        "b": normal(2),
        "m": normal(3, 2),
        "k": normal(3) + 2,
    }
    expected, found = reference(nodes, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_tree_whose_children_come_first_is_put_in_order() -> None:
    shuffled = trees(
        nodes_nodeids=[9, 1, 2, 3, 4],
        nodes_truenodeids=[2, 0, 3, 0, 0],
        nodes_falsenodeids=[1, 0, 4, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
    )
    expected, found = reference([shuffled])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (chain(("Erf", "", {})), "has no Erf"),
        (chain(("Mul", "k", {})), "found none"),
        (chain(("Softmax", "", {})), "found none|no Softmax"),
        ([node("Add", "x x", "y")], "no Add|read by"),
        (
            [trees(nodes_modes=["BRANCH_GT", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"])],
            "GT",
        ),
        ([trees(aggregate_function="MAX")], "aggregates by MAX"),
        ([trees(post_transform="PROBIT")], "PROBIT"),
        (chain(("Mul", "k", {}), ("Gemm", "w", {}), ("Mul", "k", {})), "no Mul"),
    ],
)
def test_what_is_not_covered_is_named(nodes: list[NodeProto], message: str) -> None:
    weights = {"k": normal(3) + 2, "w": normal(3, 3)}
    model = normalise(onnx_bytes(nodes, (1, 3), weights), source="m")
    with pytest.raises(ConvertOperatorError, match=message):
        emit_reference(model)


def test_images_are_not_rows() -> None:
    model = normalise(onnx_bytes(chain(("Relu", "", {})), (1, 3, 4)), source="m")
    with pytest.raises(ConvertOperatorError, match=r"takes rows, found \[1, 3, 4\]"):
        emit_reference(model)
