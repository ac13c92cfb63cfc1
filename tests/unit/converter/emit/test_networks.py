# SPDX-License-Identifier: Apache-2.0
"""Every operator both ways: ONNX to LiteRT, and that LiteRT file to ONNX again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from converter.emit.litert import emit_litert
from converter.emit.onnx import emit_onnx
from converter.errors import ConvertOperatorError
from converter.litert.normalise import normalise as normalise_litert
from converter.ort.normalise import normalise
from converter.runtimes import open_engine
from edge_contract.golden import signal_to_noise_db
from tests.support.onnx_graphs import Array, chain, node, normal, onnx_bytes

IMAGE = (1, 4, 9, 8)  # channels, rows, columns
SERIES = (1, 3, 12)
ROW = (1, 6)
Step = tuple[str, str, dict[str, Any]]
Weights = dict[str, Array]


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def f32(value: float) -> Array:
    return np.array(value, np.float32)


def conv(*shape: int, **attributes: Any) -> tuple[Step, Weights]:
    weights = {"w": normal(*shape), "b": normal(shape[0])}
    return ("Conv", "w b", attributes), weights


def one(step: tuple[Step, Weights], *more: Step) -> tuple[list[NodeProto], Weights]:
    return chain(step[0], *more), step[1]


NORM = {
    "scale": normal(4),
    "shift": normal(4, seed=1),
    "mean": normal(4, seed=2),
    "variance": np.abs(normal(4, seed=3)) + 1,
}
NORM_STEP: Step = ("BatchNormalization", "scale shift mean variance", {})
FLAT: Step = ("Flatten", "", {})
TO_LAST: Step = ("Transpose", "", {"perm": [0, 2, 3, 1]})
TO_SECOND: Step = ("Transpose", "", {"perm": [0, 3, 1, 2]})
DENSE = {"m": normal(288, 5), "c": normal(5)}

CASES: dict[str, tuple[tuple[int, ...], Sequence[NodeProto], Weights]] = {
    "conv valid": (IMAGE, *one(conv(5, 4, 3, 3))),
    "conv same": (IMAGE, *one(conv(5, 4, 3, 3, pads=[1, 1, 1, 1]))),
    "conv padded": (
        IMAGE,
        *one(conv(5, 4, 3, 3, pads=[2, 0, 1, 1], strides=[2, 2])),
    ),
    "conv dilated": (IMAGE, *one(conv(5, 4, 2, 3, dilations=[2, 2]))),
    "conv auto": (IMAGE, *one(conv(5, 4, 3, 3, auto_pad="SAME_UPPER", strides=[2, 1]))),
    "depthwise": (IMAGE, *one(conv(8, 1, 3, 3, group=4, pads=[1, 1, 1, 1]))),
    "conv relu": (IMAGE, *one(conv(5, 4, 3, 3), ("Relu", "", {}))),
    "conv relu6": (
        IMAGE,
        chain(conv(5, 4, 3, 3)[0], ("Clip", "low high", {})),
        {**conv(5, 4, 3, 3)[1], "low": f32(0), "high": f32(6)},
    ),
    "conv norm": (
        IMAGE,
        chain(conv(4, 4, 3, 3)[0], NORM_STEP, ("Relu", "", {})),
        {**conv(4, 4, 3, 3)[1], **NORM},
    ),
    "norm first": (IMAGE, chain(NORM_STEP, ("Relu", "", {})), NORM),
    "series": (SERIES, *one(conv(5, 3, 3, pads=[1, 1], strides=[2]))),
    "series depthwise": (SERIES, *one(conv(3, 1, 3, group=3), FLAT)),
    "max pool": (
        IMAGE,
        chain(("MaxPool", "", {"kernel_shape": [2, 2], "strides": [2, 2]})),
        {},
    ),
    "average pool": (
        IMAGE,
        chain(("AveragePool", "", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]})),
        {},
    ),
    "global pool": (IMAGE, chain(("GlobalAveragePool", "", {}), FLAT), {}),
    "mean": (IMAGE, chain(("ReduceMean", "", {"axes": [1, -1], "keepdims": 0})), {}),
    "mean places": (IMAGE, chain(("ReduceMean", "", {"axes": [2, 3]}), FLAT), {}),
    "mean series": (
        SERIES,
        chain(conv(5, 3, 3)[0], ("ReduceMean", "", {"axes": [-1], "keepdims": 0})),
        conv(5, 3, 3)[1],
    ),
    "gather of everything": (
        IMAGE,
        chain(
            ("GlobalAveragePool", "", {}),
            ("Reshape", "flat", {}),
            ("Gather", "places", {}),
            ("Reshape", "row", {}),
            ("Gemm", "four", {}),
        ),
        {
            "flat": i64(-1),
            "places": np.arange(4).reshape(1, 4, 1, 1),
            "row": i64(1, 4),
            "four": normal(4, 4),
        },
    ),
    "flatten dense": (
        IMAGE,
        chain(("Relu", "", {}), FLAT, ("Gemm", "m c", {"alpha": 0.5, "beta": 2.0})),
        DENSE,
    ),
    "pool flatten dense": (
        (1, 4, 18, 16),
        chain(
            ("MaxPool", "", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("Reshape", "shape", {}),
            ("MatMul", "m", {}),
            ("Add", "c", {}),
            ("Relu", "", {}),
        ),
        {**DENSE, "shape": i64(1, 288)},
    ),
    "pool flatten out": (
        (1, 4, 18, 16),
        chain(("MaxPool", "", {"kernel_shape": [2, 2], "strides": [2, 2]}), FLAT),
        {},
    ),
    "last to second": (
        (1, 9, 8, 4),
        chain(TO_SECOND, conv(5, 4, 3, 3)[0], TO_LAST, ("Softmax", "", {})),
        conv(5, 4, 3, 3)[1],
    ),
    "softmax of channels": (
        IMAGE,
        chain(conv(5, 4, 3, 3)[0], ("Softmax", "", {"axis": 1})),
        conv(5, 4, 3, 3)[1],
    ),
    "other transpose": (IMAGE, chain(("Transpose", "", {"perm": [0, 2, 1, 3]})), {}),
    "residual": (
        IMAGE,
        [
            node("Conv", "x w b", "a", pads=[1, 1, 1, 1]),
            node("Add", "a x", "s"),
            node("Relu", "s", "r"),
            node("Mul", "r k", "y"),
        ],
        {**conv(4, 4, 3, 3)[1], "k": normal(4, 1, 1)},
    ),
    "concat channels": (
        IMAGE,
        [
            node("Conv", "x w b", "a"),
            node("Sigmoid", "a", "s"),
            node("Concat", "a s", "c", axis=1),
            node("GlobalAveragePool", "c", "y"),
        ],
        conv(5, 4, 3, 3)[1],
    ),
    "concat rows": (
        ROW,
        [
            node("Sub", "one x", "n"),
            node("Concat", "n x", "y", axis=-1),
        ],
        {"one": f32(1)},
    ),
    "pad": (IMAGE, chain(("Pad", "pads", {})), {"pads": i64(0, 1, 2, 0, 0, 0, 1, 3)}),
    "conv pad": (
        IMAGE,
        chain(conv(5, 4, 3, 3)[0], ("Pad", "pads", {})),
        {**conv(5, 4, 3, 3)[1], "pads": i64(0, 1, 2, 0, 0, 0, 1, 3)},
    ),
    "squeeze": (
        SERIES,
        chain(("Unsqueeze", "axes", {}), ("Tanh", "", {}), ("Squeeze", "axes", {})),
        {"axes": i64(2)},
    ),
    "dense of rank 3": (
        (1, 5, 6),
        chain(("MatMul", "m", {}), ("Add", "c", {}), ("Relu", "", {})),
        {"m": normal(6, 4), "c": normal(4)},
    ),
    "clip low": (ROW, chain(("Clip", "low", {})), {"low": f32(-0.5)}),
    "clip both": (
        ROW,
        chain(("Clip", "low high", {})),
        {"low": f32(-0.5), "high": f32(0.25)},
    ),
    "clip high": (ROW, [node("Clip", "x", "y")], {}),
    "leaky": (ROW, chain(("LeakyRelu", "", {"alpha": 0.2})), {}),
    **{
        kind: (ROW, chain((kind, "", {})), {})
        for kind in ("Abs", "Elu", "HardSwish", "Neg", "Relu", "Sigmoid", "Tanh")
    },
    "exp log sqrt": (
        ROW,
        chain(*((one, "", {}) for one in ("Exp", "Sqrt", "Log"))),
        {},
    ),
    **{
        kind: (ROW, chain((kind, "k", {})), {"k": np.abs(normal(6)) + 1})
        for kind in ("Add", "Div", "Max", "Min", "Mul", "Sub")
    },
}
CASES["clip high"][1][0].input.extend(["", "high"])
CASES["clip high"][2]["high"] = f32(0.25)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_the_same_in_every_runtime(name: str) -> None:
    shape, nodes, weights = CASES[name]
    model = normalise(onnx_bytes(nodes, shape, weights), source=name)
    frames = np.concatenate([normal(*shape, seed=one) for one in range(8)])
    expected = open_engine("onnxruntime", model.content, "plain").run(frames)

    litert = normalise_litert(emit_litert(model), source=name)
    found = open_engine("litert", litert.content, "builtin").run(frames)

    assert (litert.input.shape, litert.post) == (model.input.shape, model.post)
    assert found.shape == expected.shape
    assert signal_to_noise_db(expected, found) >= 100

    again = normalise(emit_onnx(litert), source=name)
    found = open_engine("onnxruntime", again.content).run(frames)
    assert again.post == model.post
    assert signal_to_noise_db(expected, found) >= 100


def kinds(name: str) -> list[str]:
    shape, nodes, weights = CASES[name]
    model = normalise(onnx_bytes(nodes, shape, weights), source=name)
    return list(normalise_litert(emit_litert(model), source=name).operators)


def test_norms_and_activations_are_taken_in() -> None:
    assert kinds("conv norm") == ["TRANSPOSE", "CONV_2D", "TRANSPOSE"]


def test_views_cost_nothing() -> None:
    assert "GATHER" not in kinds("gather of everything")


def test_transposes_sink() -> None:
    assert kinds("last to second") == ["CONV_2D", "SOFTMAX"]
    assert kinds("pool flatten dense") == [
        "TRANSPOSE",
        "MAX_POOL_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]


@pytest.mark.parametrize(
    ("shape", "nodes", "weights", "message"),
    [
        (IMAGE, *one(conv(4, 2, 3, 3, group=2)), "found 2"),
        (ROW, chain(("Erf", "", {})), {}, "LiteRT: Erf is not converted"),
        (
            IMAGE,
            chain(("MaxPool", "", {"kernel_shape": [3, 3], "pads": [0, 0, 2, 2]})),
            {},
            "pads by",
        ),
        (
            IMAGE,
            chain(
                (
                    "MaxPool",
                    "",
                    {"kernel_shape": [2, 2], "ceil_mode": 1, "strides": [2, 2]},
                )
            ),
            {},
            "rounds up",
        ),
        (
            IMAGE,
            chain(("Pad", "pads", {"mode": "reflect"})),
            {"pads": i64(*[0] * 8)},
            "zeros",
        ),
        (ROW, chain(("Elu", "", {"alpha": 0.5})), {}, "alpha"),
        (IMAGE, chain(("Softmax", "", {"axis": 2})), {}, "last axis"),
        (
            ROW,
            [node("Add", "x x", "a"), node("MatMul", "a t", "y")],
            {"t": normal(1, 6, 2)},
            "matrix",
        ),
    ],
)
def test_what_is_not_covered_is_named(
    shape: tuple[int, ...], nodes: list[NodeProto], weights: Weights, message: str
) -> None:
    model = normalise(onnx_bytes(nodes, shape, weights), source="m")
    with pytest.raises(ConvertOperatorError, match=message):
        emit_litert(model)


def test_the_same_graph_gives_the_same_bytes() -> None:
    shape, nodes, weights = CASES["residual"]
    model = normalise(onnx_bytes(nodes, shape, weights), source="m")
    litert = normalise_litert(emit_litert(model), source="m")
    assert emit_litert(model) == emit_litert(model)
    assert emit_onnx(litert) == emit_onnx(litert)
