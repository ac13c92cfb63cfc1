# SPDX-License-Identifier: Apache-2.0
"""The operators that ``onnx`` writes, one function each.

Every function refuses by name what ONNX has no equal for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from converter.emit.onnx_emission import Array, Held, Layout, OnnxEmission

_SAME: Final = 0
_BINARY: Final = {
    "ADD": "Add",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "MUL": "Mul",
    "SUB": "Sub",
}
_UNARY: Final = {
    "ABS": "Abs",
    "ELU": "Elu",
    "EXP": "Exp",
    "HARD_SWISH": "HardSwish",
    "LOG": "Log",
    "LOGISTIC": "Sigmoid",
    "NEG": "Neg",
    "RELU": "Relu",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}
_REDUCTIONS: Final = {
    "MEAN": "ReduceMean",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
}
_BOUNDS: Final = {"RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0)}


def _required(run: OnnxEmission, operator: Any, position: int) -> Array:
    inputs = list(operator.inputs)
    index = int(inputs[position]) if position < len(inputs) else -1
    values = run.constant(index) if index >= 0 else None
    if values is None:
        raise run.refuse(operator, f"input {position} must be a constant")
    return values


def _bias(run: OnnxEmission, operator: Any, width: int) -> Array:
    inputs = list(operator.inputs)
    if len(inputs) < 3 or inputs[2] < 0:
        return np.zeros(width, np.float32)
    return _required(run, operator, 2).ravel()


def _conv(run: OnnxEmission, operator: Any) -> None:
    given, kernel = operator.builtinOptions, _required(run, operator, 1)
    is_depthwise = run.kind(operator) == "DEPTHWISE_CONV_2D"
    weights = kernel.transpose((3, 0, 1, 2) if is_depthwise else (0, 3, 1, 2))
    channels = run.shape(int(operator.inputs[0]))[-1]
    groups = channels if is_depthwise else 1
    if not is_depthwise and weights.shape[1] != channels:
        raise run.refuse(operator, "has groups")
    hint = run.name(int(operator.outputs[0]))
    dilations = [int(given.dilationHFactor), int(given.dilationWFactor)]
    strides = [int(given.strideH), int(given.strideW)]
    size = weights.shape[2:]
    found = run.step(
        "Conv",
        [
            run.second(int(operator.inputs[0])),
            run.weight(f"{hint}/kernel", weights),
            run.weight(f"{hint}/bias", _bias(run, operator, len(weights))),
        ],
        hint,
        group=groups,
        kernel_shape=list(size),
        strides=strides,
        dilations=dilations,
        pads=_pads(run, operator, size, strides, dilations),
    )
    run.finish(operator, found, "second", int(given.fusedActivationFunction))


def _pads(
    run: OnnxEmission,
    operator: Any,
    kernel: tuple[int, ...],
    strides: list[int],
    dilations: list[int],
) -> list[int]:
    """Return top, left, bottom, right."""
    if int(operator.builtinOptions.padding) != _SAME:
        return [0, 0, 0, 0]
    begin, end = [], []
    sizes = run.shape(int(operator.inputs[0]))[1:3]
    for size, width, stride, dilation in zip(
        sizes, kernel, strides, dilations, strict=True
    ):
        reach = (width - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        begin.append(total // 2)
        end.append(total - total // 2)
    return begin + end


def _pool(run: OnnxEmission, operator: Any) -> None:
    given = operator.builtinOptions
    kernel = (int(given.filterHeight), int(given.filterWidth))
    strides = [int(given.strideH), int(given.strideW)]
    kind = {"AVERAGE_POOL_2D": "AveragePool"}.get(run.kind(operator), "MaxPool")
    found = run.step(
        kind,
        [run.second(int(operator.inputs[0]))],
        run.name(int(operator.outputs[0])),
        kernel_shape=list(kernel),
        strides=strides,
        pads=_pads(run, operator, kernel, strides, [1, 1]),
    )
    run.finish(operator, found, "second", int(given.fusedActivationFunction))


def _dense(run: OnnxEmission, operator: Any) -> None:
    given, weights = operator.builtinOptions, _required(run, operator, 1)
    index, output = int(operator.inputs[0]), int(operator.outputs[0])
    hint, bias = run.name(output), _bias(run, operator, len(weights))
    one, shape = run.held(index), run.shape(output)
    if one.order is not None:
        name, weights = one.name, weights[:, one.order]
    else:
        name = run.plain(index)
        if len(run.shape(index)) != 2 and len(shape) == 2:
            sizes = np.array([-1, weights.shape[1]], np.int64)
            name = run.step("Reshape", [name, run.weight(hint, sizes)], hint)
    stored = run.weight(f"{hint}/bias", bias)
    if len(shape) == 2:
        matrix = run.weight(f"{hint}/weights", weights)
        found = run.step("Gemm", [name, matrix, stored], hint, transB=1)
    else:
        matrix = run.weight(f"{hint}/weights", weights.T)
        product = run.step("MatMul", [name, matrix], hint)
        found = run.step("Add", [product, stored], hint)
    run.finish(operator, found, "plain", int(given.fusedActivationFunction))


def _binary(run: OnnxEmission, operator: Any) -> None:
    output = int(operator.outputs[0])
    shape, inputs = run.shape(output), [int(one) for one in operator.inputs]
    computed = [one for one in inputs if run.constant(one) is None]
    layouts = {run.held(one).layout for one in computed}
    layout: Layout = "plain"
    if "second" in layouts and all(run.shape(one) == shape for one in computed):
        layout = "second"
        names = [_operand_second(run, one, len(shape)) for one in inputs]
    else:
        names = [run.plain(one) for one in inputs]
    found = run.step(_BINARY[run.kind(operator)], names, run.name(output))
    fused = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    run.finish(operator, found, layout, int(fused or 0))


def _operand_second(run: OnnxEmission, index: int, rank: int) -> str:
    values = run.constant(index)
    if values is None:
        return run.second(index)
    full = values.reshape((1,) * (rank - values.ndim) + values.shape)
    return run.weight(run.name(index), full.transpose(0, 3, 1, 2))


def _unary(run: OnnxEmission, operator: Any) -> None:
    kind, one = run.kind(operator), run.held(int(operator.inputs[0]))
    name = one.name if one.order is None else run.plain(int(operator.inputs[0]))
    hint = run.name(int(operator.outputs[0]))
    if kind in _BOUNDS:
        limits = [run.weight(hint, np.array(b, np.float32)) for b in _BOUNDS[kind]]
        found = run.step("Clip", [name, *limits], hint)
    elif kind == "LEAKY_RELU":
        alpha = float(operator.builtinOptions.alpha)
        found = run.step("LeakyRelu", [name], hint, alpha=alpha)
    elif kind == "SQUARE":
        found = run.step("Mul", [name, name], hint)
    elif kind == "RSQRT":
        found = run.step("Reciprocal", [run.step("Sqrt", [name], hint)], hint)
    else:
        found = run.step(_UNARY[kind], [name], hint)
    run.finish(operator, found, one.layout)


def _softmax(run: OnnxEmission, operator: Any) -> None:
    if operator.builtinOptions.beta != 1.0:
        raise run.refuse(operator, "expected beta 1")
    name = run.plain(int(operator.inputs[0]))
    found = run.step("Softmax", [name], run.name(int(operator.outputs[0])), axis=-1)
    run.finish(operator, found, "plain")


def _reshape(run: OnnxEmission, operator: Any) -> None:
    index, output = int(operator.inputs[0]), int(operator.outputs[0])
    before, after = run.shape(index), run.shape(output)
    one, readers = run.held(index), run.readers(output)
    feeds_dense = bool(readers) and all(
        run.kind(each) == "FULLY_CONNECTED" and int(each.inputs[0]) == output
        for each in readers
    )
    sizes = run.weight(run.name(output), np.array(after, np.int64))
    is_flat = len(after) == 2 and after[0] == before[0]
    if one.layout == "second" and is_flat and feeds_dense:
        found = run.step("Reshape", [one.name, sizes], run.name(output))
        places = np.arange(after[1]).reshape(before[1:])
        order = np.moveaxis(places, -1, 0).ravel()
        run.hold(output, Held(found, order=order))
        return
    found = run.step("Reshape", [run.plain(index), sizes], run.name(output))
    run.finish(operator, found, "plain")


def _reduce(run: OnnxEmission, operator: Any) -> None:
    index, output = int(operator.inputs[0]), int(operator.outputs[0])
    rank, hint = len(run.shape(index)), run.name(output)
    axes = sorted(int(one) % rank for one in _required(run, operator, 1).ravel())
    keeps = bool(operator.builtinOptions.keepDims)
    if run.kind(operator) == "MEAN" and rank == 4 and axes == [1, 2]:
        found = run.step("GlobalAveragePool", [run.second(index)], hint)
        if keeps:
            run.finish(operator, found, "second")
            return
        sizes = run.weight(hint, np.array(run.shape(output), np.int64))
        found = run.step("Reshape", [found, sizes], hint)
    else:
        kind = _REDUCTIONS[run.kind(operator)]
        found = run.step(kind, [run.plain(index)], hint, axes=axes, keepdims=int(keeps))
    run.finish(operator, found, "plain")


def _pad(run: OnnxEmission, operator: Any) -> None:
    index, hint = int(operator.inputs[0]), run.name(int(operator.outputs[0]))
    ways, one = _required(run, operator, 1), run.held(index)
    layout: Layout = one.layout
    if layout == "second":
        ways, name = ways[[0, 3, 1, 2]], one.name
    else:
        name = run.plain(index)
    sizes = run.weight(hint, ways.T.ravel().astype(np.int64))
    run.finish(operator, run.step("Pad", [name, sizes], hint), layout)


def _concat(run: OnnxEmission, operator: Any) -> None:
    output = int(operator.outputs[0])
    inputs, rank = [int(one) for one in operator.inputs], len(run.shape(output))
    axis = int(operator.builtinOptions.axis) % rank
    layout: Layout = "plain"
    if all(run.held(one).layout == "second" for one in inputs):
        layout, names = "second", [run.second(one) for one in inputs]
        axis = (0, 2, 3, 1)[axis]
    else:
        names = [run.plain(one) for one in inputs]
    found = run.step("Concat", names, run.name(output), axis=axis)
    fused = int(operator.builtinOptions.fusedActivationFunction)
    run.finish(operator, found, layout, fused)


def _transpose(run: OnnxEmission, operator: Any) -> None:
    ways = [int(one) for one in _required(run, operator, 1).ravel()]
    name = run.plain(int(operator.inputs[0]))
    hint = run.name(int(operator.outputs[0]))
    run.finish(operator, run.step("Transpose", [name], hint, perm=ways), "plain")


OPERATORS: Final[Mapping[str, Callable[[OnnxEmission, Any], None]]] = {
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys((*_UNARY, *_BOUNDS, "LEAKY_RELU", "RSQRT", "SQUARE"), _unary),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _conv),
    "CONCATENATION": _concat,
    "FULLY_CONNECTED": _dense,
    "PAD": _pad,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "TRANSPOSE": _transpose,
}
