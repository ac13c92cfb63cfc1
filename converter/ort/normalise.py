# SPDX-License-Identifier: Apache-2.0
"""One form for every float ONNX model, before anything is measured or quantized.

Owns the repairs that later steps rely on: a static batch of one, one float input and
one float output (of the labels and scores of scikit-learn, the scores), names for all
nodes, a lowered form in plain operators, nothing that varies, and a softmax at the end
left to the device. Refuses by name what ONNX Runtime does not have built in.
"""

from typing import Final

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, shape_inference

from converter.errors import (
    ConvertModelError,
    ConvertOperatorError,
    ConvertShapeError,
)
from converter.model import FloatModel
from converter.ort.lower import lower
from converter.ort.shapes import add_measured
from converter.ort.simplify import simplify
from converter.tensors import TensorSpec

MAX_BYTES: Final = 2**31 - 1
_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_INTEGER_WEIGHTS: Final = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"}
)
_MAX_REASON: Final = 300


def normalise(content: bytes, *, source: str) -> FloatModel:
    """Return ``content`` in the one form that the pipeline works on.

    Args:
        content: An ONNX file.
        source: What to call the model in messages.

    Raises:
        ConvertModelError: Not an ONNX model, or not a float one.
        ConvertOperatorError: It needs operators that the runtime does not have.
        ConvertShapeError: Not one float input and output of static shape, batch one.
    """
    model = _parse(content, source)
    _refuse_foreign(model, source)
    _keep_scores(model, source)
    _make_static(model, source)
    _drop_dead(model)
    model = simplify(_inferred(lower(model), source))
    _drop_dead(model)
    model = _inferred(model, source)
    post = _take_softmax_off(model)
    _name_nodes(model)
    _strip(model)
    given = _spec(model.graph.input[0], "input", source)
    found = _spec(model.graph.output[0], "output", source)
    operators = tuple(node.op_type for node in model.graph.node)
    return FloatModel(serialise(model), given, found, operators, "onnxruntime", post)


def serialise(model: ModelProto) -> bytes:
    """Return a model's bytes, the same for the same model."""
    return bytes(model.SerializeToString(deterministic=True))


def _parse(content: bytes, source: str) -> ModelProto:
    if not content or len(content) > MAX_BYTES:
        msg = f"{source}: expected an ONNX file, found {len(content)} bytes"
        raise ConvertModelError(msg, next_step="pass an .onnx file")
    try:
        model = onnx.load_from_string(content)
        _refuse_external(model, source)
        onnx.checker.check_model(model, full_check=True)
    except ConvertModelError:
        raise
    except Exception as error:  # protobuf and the checker have no common base
        reason = " ".join(str(error).split())[:_MAX_REASON]
        msg = f"{source}: expected an ONNX model: {reason}"
        raise ConvertModelError(msg, next_step="export the model again") from error
    return model


def _refuse_external(model: ModelProto, source: str) -> None:
    external = [
        one.name
        for one in model.graph.initializer
        if one.data_location == TensorProto.EXTERNAL
    ]
    if external:
        msg = f"{source}: {len(external)} weights are in another file"
        raise ConvertModelError(msg, next_step="save the model as one file")


def _refuse_foreign(model: ModelProto, source: str) -> None:
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in model.graph.node
            if node.domain not in _DOMAINS
        }
    )
    if foreign or model.functions:
        names = foreign or [one.name for one in model.functions]
        msg = f"{source}: expected ONNX's own operators only, found {', '.join(names)}"
        raise ConvertOperatorError(
            msg, next_step="replace these layers by ones that ONNX has"
        )
    integer = [n.op_type for n in model.graph.node if n.op_type in _INTEGER_WEIGHTS]
    if integer:
        msg = f"{source}: expected a float model, found {len(integer)} quantizing nodes"
        raise ConvertModelError(msg, next_step="convert the float model")


def _keep_scores(model: ModelProto, source: str) -> None:
    """Keep the one float output; take the scores before a ZipMap."""
    graph = model.graph
    weights = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    for node in [one for one in graph.node if one.op_type == "ZipMap"]:
        for output in graph.output:
            if output.name == node.output[0]:
                output.CopyFrom(
                    onnx.helper.make_tensor_value_info(
                        node.input[0], TensorProto.FLOAT, None
                    )
                )
        graph.node.remove(node)
    floats = [
        one
        for one in graph.output
        if one.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    is_one = len(inputs) == 1 and len(floats) == 1
    has_float = is_one and inputs[0].type.tensor_type.elem_type == TensorProto.FLOAT
    if not has_float:
        msg = f"{source}: expected one float32 input and one float32 output, found"
        msg += f" inputs {_list(inputs)}, outputs {_list(graph.output)}"
        raise ConvertShapeError(msg, next_step="export a model with one of each")
    kept = floats[0]
    del graph.output[:]
    graph.output.append(kept)


def _list(values: list[ValueInfoProto]) -> str:
    names = [
        f"{one.name} ({TensorProto.DataType.Name(one.type.tensor_type.elem_type)})"
        for one in values
    ]
    return ", ".join(names) or "none"


def _make_static(model: ModelProto, source: str) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    wrong = [
        one.dim_param or "?" for one in list(dims)[1:] if not one.HasField("dim_value")
    ]
    if len(dims) < 2 or wrong:
        msg = f"{source}: expected fixed sizes after the batch, found {wrong}"
        raise ConvertShapeError(msg, next_step="export with a fixed input shape")
    if dims[0].HasField("dim_value") and dims[0].dim_value != 1:
        msg = f"{source}: expected a batch of one, found {dims[0].dim_value}"
        raise ConvertShapeError(msg, next_step="export with a batch of one")
    dims[0].dim_value = 1
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")


def _drop_dead(model: ModelProto) -> None:
    """Remove nodes and weights that the output does not need."""
    graph = model.graph
    needed = {graph.output[0].name}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    used = [one for one in graph.initializer if one.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(sorted(used, key=lambda one: str(one.name)))


def _inferred(model: ModelProto, source: str) -> ModelProto:
    add_measured(model)
    try:
        return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx raises several kinds without a common base
        reason = " ".join(str(error).split())[:_MAX_REASON]
        msg = f"{source}: shapes cannot be inferred: {reason}"
        raise ConvertShapeError(msg, next_step="export with fixed shapes") from error


def _take_softmax_off(model: ModelProto) -> tuple[str, ...]:
    graph = model.graph
    makers = [one for one in graph.node if graph.output[0].name in one.output]
    if not makers or makers[0].op_type != "Softmax" or len(graph.node) < 2:
        return ()
    last = makers[0]
    rank = len(graph.output[0].type.tensor_type.shape.dim)
    axis = next((one.i for one in last.attribute if one.name == "axis"), -1)
    readers = [one for one in graph.node if last.input[0] in one.input]
    if rank != 2 or axis not in {-1, 1} or len(readers) != 1:
        return ()
    graph.output[0].name = last.input[0]
    graph.node.remove(last)
    kept = [one for one in graph.value_info if one.name != last.input[0]]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    return ("softmax",)


def _name_nodes(model: ModelProto) -> None:
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"


def _strip(model: ModelProto) -> None:
    for field in ("doc_string", "domain", "model_version", "producer_version"):
        model.ClearField(field)
    model.producer_name = "edge-convert"
    del model.metadata_props[:]
    model.graph.name = "main"
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


def _spec(value: ValueInfoProto, role: str, source: str) -> TensorSpec:
    dims = value.type.tensor_type.shape.dim
    shape = tuple(int(one.dim_value) for one in dims)
    if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
        msg = f"{source}: expected an {role} of shape [1, ...], found {list(shape)}"
        raise ConvertShapeError(msg, next_step="export with a batch of one")
    return TensorSpec(value.name, shape)
