# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs of a few nodes, one form for every operator of the emitters' tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

Array = NDArray[Any]


def node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    """Return a node; inputs are words."""
    domain = attributes.pop("domain", "")
    return helper.make_node(
        kind, inputs.split(), output.split(), domain=domain, **attributes
    )


def chain(*steps: tuple[str, str, dict[str, Any]]) -> list[NodeProto]:
    """Return nodes one after the other, from ``x`` to ``y``.

    Args:
        steps: Type, further inputs as words, attributes.
    """
    found = []
    for position, (kind, more, attributes) in enumerate(steps):
        given = "x" if position == 0 else f"t{position}"
        output = "y" if position == len(steps) - 1 else f"t{position + 1}"
        found.append(node(kind, f"{given} {more}".strip(), output, **attributes))
    return found


def onnx_bytes(
    nodes: Sequence[NodeProto],
    shape: tuple[int, ...],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
) -> bytes:
    """Return a model from ``x`` of a shape to ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(one, name) for name, one in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model = shape_inference.infer_shapes(model)
    output = model.graph.output[0]
    if not output.type.tensor_type.HasField("shape"):  # behind an ML operator
        output.CopyFrom(
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", "K"))
        )
    return bytes(model.SerializeToString())


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return float32 values of a unit normal distribution."""
    random = np.random.default_rng(seed + sum(shape))
    return random.normal(0, 1, shape).astype(np.float32)
