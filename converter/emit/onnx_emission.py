# SPDX-License-Identifier: Apache-2.0
"""Tensors on their way from LiteRT to ONNX, and how they are laid out.

Owns the layout, which is that of ``emission`` turned round: an image is held with its
channels second from its first convolution on. Operators are ``onnx_operators``.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from converter.errors import ConvertOperatorError
from converter.model import FloatModel

Layout = Literal["plain", "second"]
Array = NDArray[Any]
OPSET: Final = 17
IR_VERSION: Final = 8
_TYPES: Final = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_CODES: Final = {
    code: name
    for name, code in vars(schema.BuiltinOperator).items()
    if not name.startswith("_")
}
_ACTIVATIONS: Final = {
    1: ("Relu", ()),
    2: ("Clip", (-1.0, 1.0)),
    3: ("Clip", (0.0, 6.0)),
}
_TANH: Final = 4


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor of the file in the graph.

    Attributes:
        name: Of the graph's value.
        layout: ``plain`` as in the file; ``second`` is [1, C, H, W] of [1, H, W, C].
        order: Of a flattened image, which place in the file each value is from.
    """

    name: str
    layout: Layout = "plain"
    order: Array | None = None


class OnnxEmission:
    """A LiteRT file on its way into an ONNX graph."""

    def __init__(self, content: bytes) -> None:
        self._model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        self._graph = self._model.subgraphs[0]
        self._held: dict[int, Held] = {}
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._count = 0

    @property
    def operators(self) -> list[Any]:
        """The file's operators, in order."""
        return list(self._graph.operators)

    def kind(self, operator: Any) -> str:
        """Return an operator's type."""
        code = self._model.operatorCodes[operator.opcodeIndex]
        return str(_CODES[int(code.builtinCode)])

    def refuse(self, operator: Any, what: str) -> ConvertOperatorError:
        """Return the error for what is not covered."""
        msg = f"ONNX: {self.kind(operator)} {self.name(int(operator.outputs[0]))!r}"
        return ConvertOperatorError(f"{msg}: {what}", next_step="keep to LiteRT")

    def name(self, index: int) -> str:
        """Return a tensor's name."""
        return str(self._graph.tensors[index].name.decode(errors="replace"))

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape in the file."""
        return tuple(int(one) for one in self._graph.tensors[index].shape)

    def readers(self, index: int) -> list[Any]:
        """Return the operators that read a tensor."""
        return [one for one in self._graph.operators if index in list(one.inputs)]

    def constant(self, index: int) -> Array | None:
        """Return a stored tensor, or None where it is computed."""
        tensor = self._graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if data is None or not len(data) or tensor.type not in _TYPES:
            return None
        kind = np.dtype(_TYPES[tensor.type])
        values: Array = np.frombuffer(bytes(data), kind).reshape(self.shape(index))
        return values

    def weight(self, hint: str, values: Array) -> str:
        """Store a constant; return its name."""
        self._count += 1
        name = f"{hint}/{self._count}"
        self._weights[name] = numpy_helper.from_array(
            np.ascontiguousarray(values), name
        )
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node; return ``name``, its output."""
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def step(self, kind: str, inputs: list[str], hint: str, **attributes: Any) -> str:
        """Add a node whose output has a name of its own."""
        self._count += 1
        return self.node(kind, inputs, f"{hint}/{self._count}", **attributes)

    def held(self, index: int) -> Held:
        """Return a tensor as it is; a constant becomes a weight."""
        if index not in self._held:
            values = self.constant(index)
            if values is None or values.dtype != np.float32:
                msg = f"ONNX: {self.name(index)!r} is no float32 value"
                raise ConvertOperatorError(msg, next_step="keep to LiteRT")
            self._held[index] = Held(self.weight(self.name(index), values))
        return self._held[index]

    def hold(self, index: int, one: Held) -> None:
        """Say what a tensor is in the graph."""
        self._held[index] = one

    def plain(self, index: int) -> str:
        """Return a tensor laid out as in the file."""
        one = self.held(index)
        if one.order is not None:
            msg = f"ONNX: {self.name(index)!r} is a flattened image"
            raise ConvertOperatorError(msg, next_step="keep to LiteRT")
        if one.layout == "plain":
            return one.name
        found = self.step("Transpose", [one.name], self.name(index), perm=[0, 2, 3, 1])
        self._held[index] = Held(found)
        return found

    def second(self, index: int) -> str:
        """Return an image with its channels second."""
        one = self.held(index)
        if one.layout == "second":
            return one.name
        found = self.step("Transpose", [one.name], self.name(index), perm=[0, 3, 1, 2])
        if self.constant(index) is None:
            self._held[index] = Held(found, "second")
        return found

    def finish(self, operator: Any, found: str, layout: Layout, fused: int = 0) -> None:
        """Say that ``found`` is the operator's output, after its activation."""
        output = int(operator.outputs[0])
        if fused == _TANH:
            found = self.step("Tanh", [found], self.name(output))
        elif fused in _ACTIVATIONS:
            kind, bounds = _ACTIVATIONS[fused]
            limits = [self.weight("bound", np.array(one, np.float32)) for one in bounds]
            found = self.step(kind, [found, *limits], self.name(output))
        elif fused:
            raise self.refuse(operator, "has an activation without an equal")
        self._held[output] = Held(found, layout)

    def pack(self, model: FloatModel) -> bytes:
        """Return the ONNX file; the input keeps the form that the file has."""
        output = int(self._graph.outputs[0])
        found = self.plain(output)
        if model.post == ("softmax",):
            found = self.step("Softmax", [found], "probabilities", axis=-1)
        self.node("Identity", [found], "output")
        graph = helper.make_graph(
            self._nodes,
            "main",
            [
                helper.make_tensor_value_info(
                    model.input.name, TensorProto.FLOAT, model.input.shape
                )
            ],
            [
                helper.make_tensor_value_info(
                    "output", TensorProto.FLOAT, model.output.shape
                )
            ],
            [self._weights[one] for one in self._weights],
        )
        made = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(made)
        return bytes(made.SerializeToString(deterministic=True))

    def begin(self, model: FloatModel) -> None:
        """Say what the input is called."""
        self._held[int(self._graph.inputs[0])] = Held(model.input.name)
