# SPDX-License-Identifier: Apache-2.0
"""Plain operators for what exporters write in other words.

Owns these rewrites, which change no output beyond rounding: ``Identity``, ``Dropout``
and casts to the same type go; ``Scaler`` becomes ``Sub`` and ``Mul``;
``LinearRegressor`` and ``LinearClassifier`` become ``Gemm`` (and ``Softmax``, also for
two classes, whose logistic function it is), so that they can be quantized and reach
LiteRT. A mean over all places of an image or series becomes ``GlobalAveragePool``, and
a ``Gather`` of everything in its order (so PyTorch writes some views) ``Reshape``.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

_NOTHING: Final = frozenset({"Dropout", "Identity"})


def simplify(model: ModelProto) -> ModelProto:
    """Return the model in plain operators; types must have been inferred."""
    graph = model.graph
    kinds = _kinds(model)
    made: list[NodeProto] = []
    renamed: dict[str, str] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        if _is_nothing(node, kinds, made):
            renamed[str(node.output[0])] = str(node.input[0])
        else:
            made += _plain(node, graph)
    output = graph.output[0].name
    if output in renamed:
        _rename(made, renamed[output], output)
    used = {name for node in made for name in node.input}
    weights = [one for one in graph.initializer if one.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(made)
    graph.initializer.extend(sorted(weights, key=lambda one: str(one.name)))
    return model


def _kinds(model: ModelProto) -> dict[str, int]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {str(one.name): int(one.type.tensor_type.elem_type) for one in values}


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _is_nothing(
    node: NodeProto, kinds: dict[str, int], made: Iterable[NodeProto]
) -> bool:
    if node.op_type in _NOTHING:
        return True
    known = _attributes(node)
    if node.op_type == "Cast":
        return bool(kinds.get(node.input[0]) == known["to"])
    if node.op_type == "Normalizer" and known.get("norm", b"MAX") == b"L1":
        makers = [one for one in made if node.input[0] in one.output]
        return bool(makers) and makers[0].op_type == "Softmax"
    return False


def _plain(node: NodeProto, graph: Any) -> list[NodeProto]:
    rewrites = {
        "Scaler": _scaler,
        "LinearRegressor": _regressor,
        "LinearClassifier": _classifier,
        "ReduceMean": _mean,
        "Gather": _gather,
    }
    rewrite = rewrites.get(node.op_type)
    return [node] if rewrite is None else rewrite(node, graph) or [node]


def _scaler(node: NodeProto, graph: Any) -> list[NodeProto]:
    known, output = _attributes(node), node.output[0]
    offset = _constant(graph, f"{output}/offset", known["offset"])
    factor = _constant(graph, f"{output}/scale", known["scale"])
    return [
        helper.make_node("Sub", [node.input[0], offset], [f"{output}/shifted"]),
        helper.make_node("Mul", [f"{output}/shifted", factor], [output]),
    ]


def _regressor(node: NodeProto, graph: Any) -> list[NodeProto]:
    known = _attributes(node)
    if known.get("post_transform", b"NONE") != b"NONE":
        return []
    targets = known.get("targets", 1)
    weights = np.array(known["coefficients"], np.float32).reshape(targets, -1)
    bias = known.get("intercepts") or [0.0] * targets
    return [_gemm(graph, node.input[0], weights, bias, node.output[0])]


def _classifier(node: NodeProto, graph: Any) -> list[NodeProto]:
    known = _attributes(node)
    bias: Any = np.array(known.get("intercepts") or [], np.float32)
    if len(bias) < 2:
        return []
    weights: Any = np.array(known["coefficients"], np.float32)
    weights = weights.reshape(len(bias), -1)
    link, given, scores = known.get("post_transform", b"NONE"), *_ends(node)
    if link == b"NONE":
        return [_gemm(graph, given, weights, bias, scores)]
    is_mirrored = (weights[0] == -weights[1]).all() and bias[0] == -bias[1]
    if link == b"LOGISTIC" and len(bias) == 2 and is_mirrored:
        half = np.float32(0.5)  # the softmax of -z/2, z/2 is the logistic of z
        weights, bias = weights * half, bias * half
    elif link != b"SOFTMAX":
        return []
    logits = f"{scores}/logits"
    return [
        _gemm(graph, given, weights, bias, logits),
        helper.make_node("Softmax", [logits], [scores], axis=1),
    ]


def _mean(node: NodeProto, graph: Any) -> list[NodeProto]:
    known, name = _attributes(node), node.input[0]
    rank = len(_shape(graph, name))
    places = list(range(2, rank))
    if not places or sorted(one % rank for one in known.get("axes", [])) != places:
        return []
    if known.get("keepdims", 1):
        return [helper.make_node("GlobalAveragePool", [name], node.output)]
    pooled = f"{node.output[0]}/pooled"
    return [
        helper.make_node("GlobalAveragePool", [name], [pooled]),
        helper.make_node("Flatten", [pooled], node.output, axis=1),
    ]


def _gather(node: NodeProto, graph: Any) -> list[NodeProto]:
    known = {one.name: one for one in graph.initializer}
    shape = _shape(graph, node.input[0])
    if len(shape) != 1 or node.input[1] not in known:
        return []
    places = numpy_helper.to_array(known[node.input[1]])
    if not np.array_equal(places.ravel(), np.arange(shape[0])):
        return []
    name = f"{node.output[0]}/shape"
    sizes = np.array(places.shape, np.int64)
    graph.initializer.append(numpy_helper.from_array(sizes, name))
    return [helper.make_node("Reshape", [node.input[0], name], node.output)]


def _shape(graph: Any, name: str) -> list[int]:
    """Return the inferred sizes of a computed value; empty where they are unknown."""
    for one in (*graph.input, *graph.value_info):
        if one.name == name:
            return [int(size.dim_value) for size in one.type.tensor_type.shape.dim]
    return []


def _ends(node: NodeProto) -> tuple[str, str]:
    return str(node.input[0]), str(node.output[1])


def _gemm(graph: Any, given: str, weights: Any, bias: Any, output: str) -> NodeProto:
    names = [
        given,
        _constant(graph, f"{output}/weights", weights),
        _constant(graph, f"{output}/bias", bias),
    ]
    return helper.make_node("Gemm", names, [output], transB=1)


def _constant(graph: Any, name: str, values: Any) -> str:
    array = np.asarray(values, dtype=np.float32)
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _rename(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = new if name == old else name
