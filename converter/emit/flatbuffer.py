# SPDX-License-Identifier: Apache-2.0
"""A LiteRT flatbuffer, put together operator by operator.

Owns the objects of the file's schema. It knows no ONNX; see ``litert``.
"""

from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

_VERSION: Final = 3
_MAX_DEPRECATED_CODE: Final = 127
_TYPES: Final = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
}


class FlatbufferBuilder:
    """Collects tensors and operators; indices are those of the file."""

    def __init__(self) -> None:
        self._buffers: list[Any] = [schema.BufferT()]
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}
        self._names: set[str] = set()
        self._constants: dict[tuple[bytes, tuple[int, ...], str], int] = {}

    def shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self._tensors[index].shape)

    def add_tensor(self, name: str, shape: tuple[int, ...]) -> int:
        """Add a float32 tensor that is computed or given; return its index."""
        return self._add(name, shape, schema.TensorType.FLOAT32, 0)

    def add_constant(self, name: str, values: NDArray[Any]) -> int:
        """Add float32 or int32 values, once; return the tensor's index."""
        array = np.ascontiguousarray(values)
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(array.tobytes(), dtype=np.uint8)
            self._buffers.append(buffer)
            place = len(self._buffers) - 1
            kind = _TYPES[array.dtype]
            self._constants[key] = self._add(name, array.shape, kind, place)
        return self._constants[key]

    def add_operator(
        self,
        kind: str,
        inputs: list[int],
        output: int,
        options: Any = None,
    ) -> int:
        """Add an operator of a built-in ``kind``; return ``output``."""
        operator = schema.OperatorT()
        builtin = getattr(schema.BuiltinOperator, kind)
        operator.opcodeIndex = self._codes.setdefault(builtin, len(self._codes))
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self._operators.append(operator)
        return output

    def pack(self, given: int, found: int) -> bytes:
        """Return the file, with one input and one output."""
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.description = _VERSION, "edge-convert"
        model.buffers, model.operatorCodes = self._buffers, self._operator_codes()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [given], [found]
        model.subgraphs = [graph]
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    def _operator_codes(self) -> list[Any]:
        found = []
        for builtin in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = builtin, 1
            code.deprecatedBuiltinCode = min(builtin, _MAX_DEPRECATED_CODE)
            found.append(code)
        return found

    def _add(self, name: str, shape: tuple[int, ...], kind: int, buffer: int) -> int:
        unique = name
        while unique in self._names:
            unique = f"{name}#{len(self._tensors)}"
        self._names.add(unique)
        tensor = schema.TensorT()
        tensor.name, tensor.shape = unique, list(shape)
        tensor.type, tensor.buffer = kind, buffer
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def options(kind: str, **values: Any) -> Any:
    """Return the schema's options object ``kind`` with fields set."""
    found = getattr(schema, f"{kind}T")()
    for name, value in values.items():
        setattr(found, name, value)
    return found
