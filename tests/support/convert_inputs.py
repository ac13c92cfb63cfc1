# SPDX-License-Identifier: Apache-2.0
"""Small float models and data files for the converter's tests, made in milliseconds.

The model is one dense layer and a softmax over a flattened series of 8 rows of 3
values; class k wins where feature k is large, so data with known labels is easy.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
LENGTH, FEATURES, HOP = 8, 3, 4
LABELS = ("ax", "ay", "az")


def model_bytes(*, softmax: bool = True, bias: float = 0.25) -> bytes:
    """Return a ``.tflite`` of the old form: no signature, only deprecated op codes."""
    eye = np.tile(np.eye(FEATURES), (1, LENGTH)) * 4 / LENGTH
    weights = eye.astype(np.float32)
    offsets = np.array([0.0, bias, 0.0], dtype=np.float32)
    model = schema.ModelT()
    model.version = 3
    model.description = "made by a test"
    model.buffers = [_buffer(None), _buffer(weights), _buffer(offsets)]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("input", (1, LENGTH, FEATURES), 0),
        _tensor("weights", weights.shape, 1),
        _tensor("bias", offsets.shape, 2),
        _tensor("scores", (1, FEATURES), 0),
    ]
    codes, kinds = schema.BuiltinOperator, schema.BuiltinOptions
    dense = schema.FullyConnectedOptionsT()
    graph.operators = [_operator(0, [0, 1, 2], 3, kinds.FullyConnectedOptions, dense)]
    model.operatorCodes = [_old_code(codes.FULLY_CONNECTED)]
    graph.inputs, graph.outputs = [0], [3]
    if softmax:
        graph.tensors.append(_tensor("probabilities", (1, FEATURES), 0))
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        graph.operators.append(_operator(1, [3], 4, kinds.SoftmaxOptions, options))
        model.operatorCodes.append(_old_code(codes.SOFTMAX))
        graph.outputs = [4]
    model.subgraphs = [graph]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def with_custom_operator(content: bytes, name: bytes) -> bytes:
    """Return the model with its first operator replaced by a custom one."""
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = name
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def rows(
    recordings: int = 12, length: int = 80, seed: int = 1
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a data file: recording r shows class r mod 3."""
    random = np.random.default_rng(seed)
    classes = np.arange(recordings) % FEATURES
    values = random.normal(0, 1, (recordings, length, FEATURES))
    values += 2.0 * np.eye(FEATURES)[classes][:, np.newaxis, :]
    return {
        "x": values.reshape(-1, FEATURES).astype(np.float32),
        "y": np.repeat(classes, length).astype(np.int32),
        "recording": np.repeat([f"r{one}" for one in range(recordings)], length),
        "group": np.repeat(np.arange(recordings) // FEATURES, length),
        "features": np.array(LABELS),
    }


def save(path: Path, **arrays: NDArray[Any]) -> Path:
    """Write a data file."""
    np.savez(path, allow_pickle=True, **arrays)
    return path


def _buffer(values: Float32 | None) -> Any:
    buffer = schema.BufferT()
    if values is not None:
        buffer.data = np.frombuffer(values.tobytes(), dtype=np.uint8)
    return buffer


def _tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
    tensor.type = schema.TensorType.FLOAT32
    return tensor


def _operator(
    code: int,
    inputs: list[int],
    output: int,
    kind: int,
    options: Any,
) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _old_code(builtin: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = 0, builtin, 1
    return code
