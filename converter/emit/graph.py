# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph as the emitters read it: nodes, attributes, constants, shapes.

Owns reading only. The graph is in the normal form of ``ort.normalise``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from converter.errors import ConvertOperatorError

Array = NDArray[Any]


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        kind: Its type.
        inputs: Names of its tensors; empty where one is left out.
        outputs: As many.
        attributes: By name, as Python values; texts as ``str``.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    def ints(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return an attribute of integers."""
        return tuple(self.attributes.get(name, default))

    def refuse(self, what: str) -> ConvertOperatorError:
        """Return the error for what is not covered."""
        msg = f"{self.kind} {self.output!r}: {what}"
        return ConvertOperatorError(msg, next_step="use a device with ONNX Runtime")


@dataclass(frozen=True)
class Graph:
    """A graph in its normal form: one input, one output, shapes known.

    Attributes:
        nodes: In order.
        constants: By name.
        shapes: Of every tensor that is computed, by name.
        input: Its name.
        output: Its name.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    input: str
    output: str

    def readers(self, name: str) -> list[Node]:
        """Return the nodes that read a tensor."""
        return [one for one in self.nodes if name in one.inputs]

    def constant(self, node: Node, position: int) -> Array:
        """Return an input that must be known, as it is.

        Raises:
            ConvertOperatorError: It is computed.
        """
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name not in self.constants:
            raise node.refuse(f"input {position} must be a constant")
        return self.constants[name]


def read_graph(content: bytes) -> Graph:
    """Read a normalised ONNX file."""
    graph = onnx.load_from_string(content).graph
    constants = {str(one.name): numpy_helper.to_array(one) for one in graph.initializer}
    nodes = []
    for one in graph.node:
        if one.op_type == "Constant":
            constants[str(one.output[0])] = _constant(one)
        else:
            nodes.append(_node(one))
    values = [*graph.input, *graph.value_info, *graph.output]
    shapes = {
        str(one.name): tuple(
            int(size.dim_value) for size in one.type.tensor_type.shape.dim
        )
        for one in values
    }
    return Graph(
        tuple(nodes),
        constants,
        shapes,
        str(graph.input[0].name),
        str(graph.output[0].name),
    )


def _constant(node: NodeProto) -> Array:
    value = onnx.helper.get_attribute_value(node.attribute[0])
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value)


def _node(node: NodeProto) -> Node:
    found = {}
    for one in node.attribute:
        value = onnx.helper.get_attribute_value(one)
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        found[str(one.name)] = value
    return Node(
        str(node.op_type),
        tuple(map(str, node.input)),
        tuple(map(str, node.output)),
        found,
    )
