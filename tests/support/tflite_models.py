# SPDX-License-Identifier: Apache-2.0
"""Tiny ``.tflite`` models, written in milliseconds without any training library.

One dense layer and, if asked, a softmax: enough to serve, to be right or wrong on
purpose, and to give outputs that can be computed by hand.
"""

from collections.abc import Sequence
from itertools import pairwise

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def dense_model(
    weights: Float32,
    bias: Float32,
    input_shape: tuple[int, ...],
    *,
    softmax: bool = True,
) -> bytes:
    """Return a model: dense over the flattened input, then softmax if asked.

    Args:
        weights: float32 [K, product of ``input_shape``].
        bias: float32 [K].
        input_shape: Batch of 1 first.
        softmax: Whether the output is probabilities.
    """
    labels = len(bias)
    model = schema.ModelT()
    model.version = 3
    model.description = "dense"
    model.buffers = [
        _buffer(b""),
        _buffer(weights.astype("<f4").tobytes()),
        _buffer(bias.astype("<f4").tobytes()),
    ]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [
        _tensor("input", input_shape, 0),
        _tensor("weights", weights.shape, 1),
        _tensor("bias", bias.shape, 2),
        _tensor("scores", (1, labels), 0),
    ]
    dense = schema.FullyConnectedOptionsT()
    graph.operators = [
        _operator(0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, dense)
    ]
    model.operatorCodes = [_code(schema.BuiltinOperator.FULLY_CONNECTED)]
    graph.inputs, graph.outputs = [0], [3]
    if softmax:
        _add_softmax(model, graph)
    return _packed(model, graph)


def stack_model(
    widths: tuple[int, ...],
    seed: int = 0,
    *,
    softmax: bool = False,
    spread: float = 0.0,
) -> bytes:
    """Return dense layers with a ReLU between them, of random weights.

    Args:
        widths: Values of the input, of each hidden layer, and of the output.
        seed: Of the weights.
        softmax: Whether the output is probabilities.
        spread: How many octaves lie between the smallest and the largest channel behind
            the first layer; the second layer takes them back.
    """
    random = np.random.default_rng(seed)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, "stack"
    model.buffers = [_buffer(b"")]
    graph.name, graph.operators = "main", []
    graph.tensors = [_tensor("input", (1, widths[0]), 0)]
    layers = len(widths) - 1
    gains = np.exp2(-np.linspace(0, spread, widths[1]))
    for layer, (given, wanted) in enumerate(pairwise(widths)):
        weights = random.normal(size=(wanted, given)) / np.sqrt(given)
        offsets = random.normal(size=wanted) / 4
        if layer == 0:
            weights, offsets = weights * gains[:, np.newaxis], offsets * gains
        if layer == 1:
            weights = weights / gains
        values = (weights.astype("<f4"), offsets.astype("<f4"))
        before = 3 * layer if layer else 0
        for name, one in zip(("weights", "bias"), values, strict=True):
            model.buffers.append(_buffer(one.astype("<f4").tobytes()))
            buffer = len(model.buffers) - 1
            graph.tensors.append(_tensor(f"{name}{layer}", one.shape, buffer))
        graph.tensors.append(_tensor(f"dense{layer}", (1, wanted), 0))
        options = schema.FullyConnectedOptionsT()
        relu = schema.ActivationFunctionType.RELU
        options.fusedActivationFunction = relu if layer + 1 < layers else 0
        at = 3 * layer + 1
        kind = schema.BuiltinOptions.FullyConnectedOptions
        graph.operators.append(
            _operator(0, [before, at, at + 1], [at + 2], kind, options)
        )
    model.operatorCodes = [_code(schema.BuiltinOperator.FULLY_CONNECTED)]
    graph.inputs, graph.outputs = [0], [3 * layers]
    if softmax:
        _add_softmax(model, graph)
    return _packed(model, graph)


def int8_input_model(values: int, scale: float, zero_point: int) -> bytes:
    """Return a model that takes int8 and gives back the real values that it took."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description = 3, "int8"
    model.buffers = [_buffer(b"")]
    graph.name = "main"
    graph.tensors = [
        _tensor("input", (1, values), 0),
        _tensor("output", (1, values), 0),
    ]
    graph.tensors[0].type = schema.TensorType.INT8
    graph.tensors[0].quantization = schema.QuantizationParametersT()
    graph.tensors[0].quantization.scale = [scale]
    graph.tensors[0].quantization.zeroPoint = [zero_point]
    options = schema.DequantizeOptionsT()
    kind = schema.BuiltinOptions.DequantizeOptions
    graph.operators = [_operator(0, [0], [1], kind, options)]
    model.operatorCodes = [_code(schema.BuiltinOperator.DEQUANTIZE)]
    graph.inputs, graph.outputs = [0], [1]
    return _packed(model, graph)


def _add_softmax(model: schema.ModelT, graph: schema.SubGraphT) -> None:
    scores, found = graph.outputs[0], len(graph.tensors)
    graph.tensors.append(_tensor("probabilities", graph.tensors[scores].shape, 0))
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    kind = schema.BuiltinOptions.SoftmaxOptions
    graph.operators.append(_operator(1, [scores], [found], kind, options))
    model.operatorCodes.append(_code(schema.BuiltinOperator.SOFTMAX))
    graph.outputs = [found]


def _packed(model: schema.ModelT, graph: schema.SubGraphT) -> bytes:
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(data: bytes) -> schema.BufferT:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, dtype=np.uint8) if data else None
    return buffer


def _tensor(name: str, shape: Sequence[int], buffer: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.shape = list(shape)
    tensor.type = schema.TensorType.FLOAT32
    tensor.buffer = buffer
    return tensor


def _operator(
    code: int, inputs: list[int], outputs: list[int], kind: int, options: object
) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs = inputs
    operator.outputs = outputs
    operator.builtinOptionsType = kind
    operator.builtinOptions = options
    return operator


def _code(builtin: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = builtin
    code.version = 1
    return code
