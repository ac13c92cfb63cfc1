# SPDX-License-Identifier: Apache-2.0
"""Tiny ``.onnx`` models, made in milliseconds without any training library."""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Float32 = NDArray[np.float32]


def dense_onnx(
    weights: Float32,
    bias: Float32,
    input_shape: tuple[int | str, ...],
    *,
    softmax: bool = True,
    opset: int = 17,
    ir_version: int = 8,
) -> bytes:
    """Return a model: dense over the flattened input, then softmax if asked.

    Args:
        weights: float32 [K, product of ``input_shape``].
        bias: float32 [K].
        input_shape: Batch first; a text for a dynamic size.
        softmax: Whether the output is probabilities.
        opset: Version of the operators.
        ir_version: Version of the file's form.
    """
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
        helper.make_node(
            "Gemm", ["flat", "weights", "bias"], ["scores"], name="dense", transB=1
        ),
    ]
    output = "scores"
    if softmax:
        output = "probabilities"
        nodes.append(helper.make_node("Softmax", ["scores"], [output], name="end"))
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)],
        [
            helper.make_tensor_value_info(
                output, TensorProto.FLOAT, (input_shape[0], len(bias))
            )
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=ir_version,
        producer_name="a test",
    )
    return bytes(model.SerializeToString())


def sum_onnx(values: int) -> bytes:
    """Return a model without weights: the sum of its input."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", (1, values)), ("output", (1, 1)))
    ]
    nodes = [helper.make_node("ReduceSum", ["input"], ["output"], name="sum")]
    model = helper.make_model(
        helper.make_graph(nodes, "sum", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    return bytes(model.SerializeToString())
