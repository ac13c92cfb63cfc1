# SPDX-License-Identifier: Apache-2.0
"""The operators that ``litert`` writes, one function each.

Every function refuses by name the attributes that LiteRT has no equal for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from converter.emit.emission import Emission, Held, Layout, activation, channels_last
from converter.emit.flatbuffer import options
from converter.emit.graph import Array, Node

_SAME: Final = 0
_VALID: Final = 1
_BINARY: Final = {
    "Add": ("ADD", "AddOptions"),
    "Div": ("DIV", "DivOptions"),
    "Max": ("MAXIMUM", "MaximumMinimumOptions"),
    "Min": ("MINIMUM", "MaximumMinimumOptions"),
    "Mul": ("MUL", "MulOptions"),
    "Sub": ("SUB", "SubOptions"),
}
_UNARY: Final = {
    "Abs": "ABS",
    "Elu": "ELU",
    "Exp": "EXP",
    "HardSwish": "HARD_SWISH",
    "Log": "LOG",
    "Neg": "NEG",
    "Relu": "RELU",
    "Sigmoid": "LOGISTIC",
    "Sqrt": "SQRT",
    "Tanh": "TANH",
}


def _conv(run: Emission, node: Node) -> None:
    weights = run.graph.constant(node, 1).astype(np.float32)
    shape = run.shape(node.inputs[0])
    spatial = len(shape) - 2
    if spatial not in {1, 2}:
        raise node.refuse(f"expected one or two places, found {spatial}")
    groups, channels = int(node.attributes.get("group", 1)), shape[1]
    bias = np.zeros(len(weights), np.float32)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = run.graph.constant(node, 2).astype(np.float32)
    weights, bias, name = _fold_norm(run, node, weights, bias)
    if spatial == 1:
        weights = weights[:, :, np.newaxis, :]
    index, padding = _padded(
        run, node, run.last(node.inputs[0], node), weights.shape[2:]
    )
    name, fused = run.fuse(name)
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    common = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": fused,
    }
    if groups == 1:
        kind, kernel = "CONV_2D", weights.transpose(0, 2, 3, 1)
        given = options("Conv2DOptions", **common)
    elif groups == channels and weights.shape[1] == 1:
        kind, kernel = "DEPTHWISE_CONV_2D", weights.transpose(1, 2, 3, 0)
        multiplier = len(weights) // channels
        given = options("DepthwiseConv2DOptions", depthMultiplier=multiplier, **common)
    else:
        raise node.refuse(f"expected one group, or one a channel, found {groups}")
    inputs = [
        index,
        run.file.add_constant(f"{name}/kernel", kernel),
        run.file.add_constant(f"{name}/bias", bias),
    ]
    run.add(kind, inputs, name, run.shape(name), "last", given)


def _fold_norm(
    run: Emission, node: Node, weights: Array, bias: Array
) -> tuple[Array, Array, str]:
    """Return kernel and bias with a BatchNormalization behind them, if there is one."""
    readers = run.graph.readers(node.output)
    alone = len(readers) == 1 and node.output != run.graph.output
    if not alone or readers[0].kind != "BatchNormalization":
        return weights, bias, node.output
    factor, offset = _norm(run, readers[0])
    run.take(readers[0])
    scaled = weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
    return scaled.astype(np.float32), bias * factor + offset, readers[0].output


def _norm(run: Emission, node: Node) -> tuple[Array, Array]:
    scale, shift, mean, variance = (
        run.graph.constant(node, one).astype(np.float64) for one in range(1, 5)
    )
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)


def _batch_normalization(run: Emission, node: Node) -> None:
    factor, offset = _norm(run, node)
    name, shape = node.output, run.shape(node.output)
    is_image = len(shape) > 2
    index = (
        run.last(node.inputs[0], node) if is_image else run.plain(node.inputs[0], node)
    )
    scaled = run.file.add_tensor(f"{name}/scaled", run.file.shape(index))
    run.file.add_operator(
        "MUL",
        [index, run.file.add_constant(f"{name}/factor", factor)],
        scaled,
        options("MulOptions"),
    )
    output, fused = run.fuse(name)
    inputs = [scaled, run.file.add_constant(f"{name}/offset", offset)]
    given = options("AddOptions", fusedActivationFunction=fused)
    run.add("ADD", inputs, output, shape, "last" if is_image else "plain", given)


def _pair(node: Node, name: str) -> tuple[int, int]:
    values = node.ints(name, (1, 1))
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def _pads(node: Node) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right."""
    found = node.ints("pads", (0, 0, 0, 0))
    return (0, found[0], 0, found[1]) if len(found) == 2 else found  # type: ignore[return-value]


def _padded(
    run: Emission, node: Node, index: int, kernel: tuple[int, ...]
) -> tuple[int, int]:
    """Return the padded input and the operator's own padding."""
    asked = node.attributes.get("auto_pad", "NOTSET")
    if asked in {"SAME_UPPER", "VALID"}:
        return index, _SAME if asked == "SAME_UPPER" else _VALID
    pads = _pads(node)
    if asked != "NOTSET":
        raise node.refuse(f"pads by {asked}")
    if not any(pads):
        return index, _VALID
    if pads == _same_pads(run, node, index, kernel):
        return index, _SAME
    if node.kind != "Conv":
        raise node.refuse(f"pads by {list(pads)}")
    top, left, bottom, right = pads
    ways = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    batch, high, wide, channels = run.file.shape(index)
    shape = (batch, high + top + bottom, wide + left + right, channels)
    output = run.file.add_tensor(f"{node.output}/padded", shape)
    sizes = run.file.add_constant(f"{node.output}/pads", ways)
    run.file.add_operator("PAD", [index, sizes], output, options("PadOptions"))
    return output, _VALID


def _same_pads(
    run: Emission, node: Node, index: int, kernel: tuple[int, ...]
) -> tuple[int, int, int, int]:
    sizes = run.file.shape(index)[1:3]
    found = []
    strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
    for size, width, stride, dilation in zip(
        sizes, kernel, strides, dilations, strict=True
    ):
        reach = (width - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        found.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = found
    return top, left, bottom, right


def _pool(run: Emission, node: Node) -> None:
    kernel = _pair(node, "kernel_shape")
    if node.attributes.get("ceil_mode", 0) or set(_pair(node, "dilations")) != {1}:
        raise node.refuse("rounds up or has gaps")
    index, padding = _padded(run, node, run.last(node.inputs[0], node), kernel)
    is_average = node.kind == "AveragePool"
    counts_pads = node.attributes.get("count_include_pad", 0) and any(_pads(node))
    if is_average and counts_pads and padding == _SAME:
        raise node.refuse("counts its padding")
    stride = _pair(node, "strides")
    name, fused = run.fuse(node.output)
    given = options(
        "Pool2DOptions",
        padding=padding,
        strideH=stride[0],
        strideW=stride[1],
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        fusedActivationFunction=fused,
    )
    kind = "AVERAGE_POOL_2D" if is_average else "MAX_POOL_2D"
    run.add(kind, [index], name, run.shape(name), "last", given)


def _global_pool(run: Emission, node: Node) -> None:
    index = run.last(node.inputs[0], node)
    axes = run.file.add_constant("places", np.array([1, 2], np.int32))
    given = options("ReducerOptions", keepDims=True)
    run.add("MEAN", [index, axes], node.output, run.shape(node.output), "last", given)


def _mean(run: Emission, node: Node) -> None:
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = tuple(int(one) for one in run.graph.constant(node, 1).ravel())
    else:
        axes = node.ints("axes")
    rank, keeps = (
        len(run.shape(node.inputs[0])),
        bool(node.attributes.get("keepdims", 1)),
    )
    inputs = [
        run.plain(node.inputs[0], node),
        run.file.add_constant(
            f"{node.output}/axes", np.array(sorted(a % rank for a in axes), np.int32)
        ),
    ]
    if not axes:
        raise node.refuse("names no axes")
    given = options("ReducerOptions", keepDims=keeps)
    run.add("MEAN", inputs, node.output, run.shape(node.output), "plain", given)


def _dense(run: Emission, node: Node) -> None:
    weights = run.graph.constant(node, 1).astype(np.float32)
    if weights.ndim != 2 or node.attributes.get("transA", 0):
        raise node.refuse("expected a constant matrix")
    if not node.attributes.get("transB", 0):
        weights = weights.T
    weights = weights * np.float32(node.attributes.get("alpha", 1.0))
    bias, name = np.zeros(len(weights), np.float32), node.output
    if len(node.inputs) > 2:
        beta = np.float32(node.attributes.get("beta", 1.0))
        bias = bias + run.graph.constant(node, 2).astype(np.float32).ravel() * beta
    elif added := _added(run, node, len(weights)):
        bias, name = run.graph.constant(added[0], added[1]).ravel(), added[0].output
        run.take(added[0])
    one = run.held(node.inputs[0], node)
    index = one.index
    if one.order is None:
        index = run.plain(node.inputs[0], node)
    else:
        weights = weights[:, one.order]
    name, fused = run.fuse(name)
    inputs = [
        index,
        run.file.add_constant(f"{name}/weights", weights),
        run.file.add_constant(f"{name}/bias", bias.astype(np.float32)),
    ]
    shape = run.shape(name)
    given = options(
        "FullyConnectedOptions",
        fusedActivationFunction=fused,
        keepNumDims=len(shape) > 2,
    )
    run.add("FULLY_CONNECTED", inputs, name, shape, "plain", given)


def _added(run: Emission, node: Node, width: int) -> tuple[Node, int] | None:
    """Return the Add that alone reads a product, and where its constant is."""
    readers = run.graph.readers(node.output)
    if len(readers) != 1 or readers[0].kind != "Add" or node.output == run.graph.output:
        return None
    for position, name in enumerate(readers[0].inputs):
        values = run.graph.constants.get(name)
        if values is not None and values.size == width == values.shape[-1]:
            return readers[0], position
    return None


def _binary(run: Emission, node: Node) -> None:
    if len(node.inputs) != 2:
        raise node.refuse(f"expected two inputs, found {len(node.inputs)}")
    kind, option = _BINARY[node.kind]
    shape, known = run.shape(node.output), run.graph.constants
    computed = [one for one in node.inputs if one not in known]
    layouts = [run.held(one, node).layout for one in computed]
    if all(run.shape(one) == shape for one in computed) and "last" in layouts:
        layout: Layout = "last"
        inputs = [_operand_last(run, node, one, shape) for one in node.inputs]
    else:
        layout = "plain"
        inputs = [run.plain(one, node) for one in node.inputs]
    name, fused = (node.output, 0)
    if option != "MaximumMinimumOptions":
        name, fused = run.fuse(node.output)
        given = options(option, fusedActivationFunction=fused)
    else:
        given = options(option)
    run.add(kind, inputs, name, shape, layout, given)


def _operand_last(run: Emission, node: Node, name: str, shape: tuple[int, ...]) -> int:
    """Return an operand with channels last; of a constant, what broadcasts alike."""
    values = run.graph.constants.get(name)
    if values is None:
        return run.last(name, node)
    full = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    ways = (0, 2, 1) if len(shape) == 3 else (0, 2, 3, 1)
    turned = full.transpose(ways)
    if len(shape) == 3:
        turned = turned[:, np.newaxis]
    return run.file.add_constant(name, turned.astype(np.float32))


def _unary(run: Emission, node: Node) -> None:
    if node.kind == "Elu" and node.attributes.get("alpha", 1.0) != 1.0:
        raise node.refuse("expected alpha 1")
    one = _whole(run, node)
    shape = run.shape(node.output)
    run.add(_UNARY[node.kind], [one.index], node.output, shape, one.layout)


def _whole(run: Emission, node: Node) -> Held:
    """Return an input whose values may be in any order, or refuse a flattened one."""
    one = run.held(node.inputs[0], node)
    return one if one.order is None else Held(run.plain(node.inputs[0], node))


def _clip(run: Emission, node: Node) -> None:
    one, shape = _whole(run, node), run.shape(node.output)
    kind = {"Relu": "RELU", "Relu6": "RELU6"}.get(activation(run.graph, node))
    if kind:
        run.add(kind, [one.index], node.output, shape, one.layout)
        return
    index = one.index
    bounds = [
        (name, run.graph.constants[name].astype(np.float32).ravel())
        for name in node.inputs[1:]
        if name in run.graph.constants
    ]
    kinds = (
        ["MAXIMUM", "MINIMUM"][-len(bounds) :]
        if node.inputs[1] == ""
        else [
            "MAXIMUM",
            "MINIMUM",
        ][: len(bounds)]
    )
    if not bounds:
        raise node.refuse("expected constant bounds")
    for kind_, (name, bound) in zip(kinds, bounds, strict=True):
        limit = run.file.add_constant(name, bound)
        output = run.file.add_tensor(node.output, run.file.shape(index))
        given = options("MaximumMinimumOptions")
        index = run.file.add_operator(kind_, [index, limit], output, given)
    run.hold(node.output, Held(index, one.layout))


def _leaky(run: Emission, node: Node) -> None:
    one = _whole(run, node)
    given = options("LeakyReluOptions", alpha=node.attributes.get("alpha", 0.01))
    shape = run.shape(node.output)
    run.add("LEAKY_RELU", [one.index], node.output, shape, one.layout, given)


def _softmax(run: Emission, node: Node) -> None:
    shape = run.shape(node.output)
    axis = int(node.attributes.get("axis", -1)) % len(shape)
    one = run.held(node.inputs[0], node)
    layout = one.layout if axis == 1 and len(shape) > 2 else "plain"
    if layout == "plain" and axis != len(shape) - 1:
        raise node.refuse(f"expected the last axis, found {axis}")
    index = one.index if layout == "last" else run.plain(node.inputs[0], node)
    given = options("SoftmaxOptions", beta=1.0)
    run.add("SOFTMAX", [index], node.output, shape, layout, given)


def _reshape(run: Emission, node: Node) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze: the output's shape is known."""
    name, given = node.output, node.inputs[0]
    before, after = run.shape(given), run.shape(name)
    one = run.held(given, node)
    readers = run.graph.readers(name)
    feeds_dense = bool(readers) and all(
        each.kind in {"Gemm", "MatMul"} and each.inputs[0] == name for each in readers
    )
    is_flat = len(after) == 2 and after[0] == before[0]
    if one.layout == "last" and is_flat and feeds_dense and name != run.graph.output:
        places = np.arange(after[1]).reshape(before[1:])
        order = np.moveaxis(places, 0, -1).ravel()
        run.hold(name, Held(run.reshape(name, one.index, after), order=order))
        return
    index = run.plain(given, node)
    run.hold(name, Held(run.reshape(name, index, after)))


def _transpose(run: Emission, node: Node) -> None:
    shape = run.shape(node.inputs[0])
    ways = node.ints("perm", tuple(range(len(shape)))[::-1])
    one = run.held(node.inputs[0], node)
    rank = len(shape)
    to_second = (0, rank - 1, *range(1, rank - 1))
    to_last = (0, *range(2, rank), 1)
    if rank in {3, 4} and one.layout == "plain" and ways == to_second:
        index = run.reshape(
            node.output, one.index, channels_last(run.shape(node.output))
        )
        run.hold(node.output, Held(index, "last"))
    elif rank in {3, 4} and one.layout == "last" and ways == to_last:
        index = run.reshape(node.output, one.index, run.shape(node.output))
        run.hold(node.output, Held(index))
    else:
        index = run.plain(node.inputs[0], node)
        run.hold(node.output, Held(run.transpose(node.output, index, ways)))


def _concat(run: Emission, node: Node) -> None:
    shape = run.shape(node.output)
    axis = int(node.attributes["axis"]) % len(shape)
    computed = [one for one in node.inputs if one not in run.graph.constants]
    layouts = {run.held(one, node).layout for one in computed}
    layout: Layout = (
        "last" if layouts == {"last"} and len(computed) == len(node.inputs) else "plain"
    )
    if layout == "last":
        inputs = [run.last(one, node) for one in node.inputs]
        axis = {4: (0, 3, 1, 2), 3: (0, 3, 2)}[len(shape)][axis]
    else:
        inputs = [run.plain(one, node) for one in node.inputs]
    given = options("ConcatenationOptions", axis=axis)
    run.add("CONCATENATION", inputs, node.output, shape, layout, given)


def _pad(run: Emission, node: Node) -> None:
    sizes = run.graph.constant(node, 1).ravel().astype(np.int32)
    if len(node.inputs) > 2 and node.inputs[2]:
        value = float(run.graph.constant(node, 2).ravel()[0])
    else:
        value = 0.0
    has_axes = len(node.inputs) > 3 and node.inputs[3]
    if node.attributes.get("mode", "constant") != "constant" or value or has_axes:
        raise node.refuse("expected zeros on every axis")
    if (sizes < 0).any():
        raise node.refuse("cuts")
    rank = len(run.shape(node.output))
    ways = sizes.reshape(2, rank).T
    one = run.held(node.inputs[0], node)
    layout: Layout = one.layout if rank == 4 else "plain"
    if layout == "last":
        ways, index = ways[[0, 2, 3, 1]], one.index
    else:
        index = run.plain(node.inputs[0], node)
    inputs = [index, run.file.add_constant(f"{node.output}/pads", ways)]
    shape, given = run.shape(node.output), options("PadOptions")
    run.add("PAD", inputs, node.output, shape, layout, given)


OPERATORS: Final[Mapping[str, Callable[[Emission, Node], Any]]] = {
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Gemm", "MatMul"), _dense),
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "GlobalAveragePool": _global_pool,
    "LeakyRelu": _leaky,
    "Pad": _pad,
    "ReduceMean": _mean,
    "Softmax": _softmax,
    "Transpose": _transpose,
}
