# SPDX-License-Identifier: Apache-2.0
"""Tensors on their way from ONNX to LiteRT, and how they are laid out.

Owns the layout. ONNX keeps channels second, LiteRT last: a tensor of an image is held
with its channels last from its first convolution on, and turned back only where an
operator mixes places and channels. A transpose in the graph that says the same costs
nothing, and one before a dense layer is sunk into its weights. Operators are
``litert_operators``.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from converter.emit.flatbuffer import FlatbufferBuilder, options
from converter.emit.graph import Array, Graph, Node

Layout = Literal["plain", "last"]
_FUSED: Final = {"Relu": 1, "Relu6": 3}  # of the schema's ActivationFunctionType
NO_ACTIVATION: Final = 0


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor of the graph in the file.

    Attributes:
        index: Of the file's tensor.
        layout: ``plain`` as in ONNX; ``last`` is [1, H, W, C] of [1, C, H, W], and
            [1, 1, L, C] of [1, C, L].
        order: Of a flattened image, which ONNX place each value is from; else None.
    """

    index: int
    layout: Layout = "plain"
    order: Array | None = None


class Emission:
    """A graph on its way into a file."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.file = FlatbufferBuilder()
        self._held: dict[str, Held] = {}
        self._done: set[str] = set()

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape in the graph."""
        if name in self.graph.constants:
            return self.graph.constants[name].shape
        return self.graph.shapes[name]

    def held(self, name: str, node: Node) -> Held:
        """Return a computed tensor, or a constant as it is."""
        if name in self.graph.constants:
            values = self.graph.constants[name]
            if values.dtype != np.float32:
                raise node.refuse(f"expected float32 {name!r}, found {values.dtype}")
            return Held(self.file.add_constant(name, values))
        return self._held[name]

    def plain(self, name: str, node: Node) -> int:
        """Return a tensor laid out as in the graph."""
        one = self.held(name, node)
        if one.order is not None:
            raise node.refuse("reads a flattened image")
        if one.layout == "plain":
            return one.index
        shape = self.shape(name)
        index = one.index
        if len(shape) == 3:
            index = self.reshape(name, index, (shape[0], shape[2], shape[1]))
        ways = (0, 2, 1) if len(shape) == 3 else (0, 3, 1, 2)
        index = self.transpose(name, index, ways)
        self._held[name] = Held(index)
        return index

    def last(self, name: str, node: Node) -> int:
        """Return an image or series with its channels last."""
        one = self.held(name, node)
        if one.layout == "last":
            return one.index
        shape = self.shape(name)
        if len(shape) not in {3, 4} or one.order is not None:
            raise node.refuse(f"expected an image or a series, found {list(shape)}")
        ways = (0, 2, 1) if len(shape) == 3 else (0, 2, 3, 1)
        index = self.transpose(name, one.index, ways)
        index = self.reshape(name, index, channels_last(shape))
        if name not in self.graph.constants:
            self._held[name] = Held(index, "last")
        return index

    def transpose(self, name: str, index: int, ways: tuple[int, ...]) -> int:
        """Add a TRANSPOSE, or a RESHAPE where no value moves."""
        shape = self.file.shape(index)
        turned = tuple(shape[one] for one in ways)
        moving = [one for one in ways if shape[one] > 1]
        if moving == sorted(moving):
            return self.reshape(name, index, turned)
        output = self.file.add_tensor(name, turned)
        order = self.file.add_constant(f"{name}/order", np.array(ways, np.int32))
        return self.file.add_operator(
            "TRANSPOSE", [index, order], output, options("TransposeOptions")
        )

    def reshape(self, name: str, index: int, shape: tuple[int, ...]) -> int:
        """Add a RESHAPE where the shape differs."""
        if self.file.shape(index) == shape:
            return index
        output = self.file.add_tensor(name, shape)
        sizes = np.array(shape, np.int32)
        return self.file.add_operator(
            "RESHAPE",
            [index, self.file.add_constant(f"{name}/shape", sizes)],
            output,
            options("ReshapeOptions", newShape=list(shape)),
        )

    def add(
        self,
        kind: str,
        inputs: list[int],
        name: str,
        shape: tuple[int, ...],
        layout: Layout = "plain",
        given: Any = None,
    ) -> None:
        """Add an operator whose output is the graph's tensor ``name``."""
        in_file = channels_last(shape) if layout == "last" else shape
        index = self.file.add_tensor(name, in_file)
        self.file.add_operator(kind, inputs, index, given)
        self._held[name] = Held(index, layout)

    def hold(self, name: str, one: Held) -> None:
        """Say that a tensor of the graph is one of the file already."""
        self._held[name] = one

    def fuse(self, name: str) -> tuple[str, int]:
        """Return the output and activation of an operator that computes ``name``.

        A Relu that alone reads it is taken in.
        """
        readers = self.graph.readers(name)
        if len(readers) != 1 or name == self.graph.output:
            return name, NO_ACTIVATION
        kind = activation(self.graph, readers[0])
        if kind not in _FUSED:
            return name, NO_ACTIVATION
        self._done.add(readers[0].output)
        return readers[0].output, _FUSED[kind]

    def is_taken(self, node: Node) -> bool:
        """Return whether a node is computed by the one before it."""
        return node.output in self._done

    def take(self, node: Node) -> None:
        """Say that a node is computed by the one before it."""
        self._done.add(node.output)


def activation(graph: Graph, node: Node) -> str:
    """Return ``Relu`` or ``Relu6`` where a node is that, else its type."""
    if node.kind != "Clip":
        return node.kind
    bounds = [
        float(graph.constants[one]) if one in graph.constants else None
        for one in (*node.inputs[1:], "", "")[:2]
    ]
    kinds: dict[tuple[float | None, float | None], str] = {
        (0.0, None): "Relu",
        (0.0, 6.0): "Relu6",
    }
    return kinds.get((bounds[0], bounds[1]), "Clip")


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return [1, H, W, C] of [1, C, H, W], or [1, 1, L, C] of [1, C, L]."""
    if len(shape) == 3:
        return (shape[0], 1, shape[2], shape[1])
    return (shape[0], *shape[2:], shape[1])
