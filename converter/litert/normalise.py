# SPDX-License-Identifier: Apache-2.0
"""One form for every float LiteRT model, before anything is measured or quantized.

Owns the repairs that later steps rely on: operator codes in both fields (files written
before TensorFlow 2.4 carry only the deprecated one, and ai-edge-quantizer then reads
every operator as ADD), a ``serving_default`` signature, a static batch of one, unique
tensor names, no description or metadata that varies, EXPAND_DIMS and SQUEEZE as the
RESHAPE that they are under static shapes (the quantizer covers only the latter), shapes
that were computed for a batch of any size as the numbers that they are, and a softmax
at the end left to the device, so that no int8 softmax blurs a step.
Refuses custom and flex operators by name. It computes nothing; see ``parity``.
"""

import struct
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from converter.errors import (
    ConvertModelError,
    ConvertOperatorError,
    ConvertShapeError,
)
from converter.model import FloatModel
from converter.tensors import TensorSpec

SIGNATURE = "serving_default"
_IDENTIFIER = b"TFL3"
_MAX_DEPRECATED_CODE = 127
# What reading inconsistent tables raises once the runtime's verifier passed them.
_MALFORMED = (
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
_KEPT_METADATA = b"min_runtime_version"
_DESCRIPTION = "edge-convert"
_MAX_REASON = 200
_QUANTIZED = frozenset(
    {
        schema.TensorType.INT4,
        schema.TensorType.INT8,
        schema.TensorType.UINT8,
        schema.TensorType.INT16,
        schema.TensorType.FLOAT16,
    }
)
_BUILTIN = schema.BuiltinOperator
_OPERATOR_NAMES = {
    code: name for name, code in vars(_BUILTIN).items() if not name.startswith("_")
}


def normalise(content: bytes, *, source: str) -> FloatModel:
    """Return ``content`` in the one form that the pipeline works on.

    Args:
        content: A LiteRT flatbuffer.
        source: What to call the model in messages.

    Raises:
        ConvertModelError: Not a LiteRT model, or one that the runtime refuses.
        ConvertOperatorError: It needs custom or flex operators.
        ConvertShapeError: Not one float32 input and output of static shape, batch one.
    """
    try:
        return _normalised(content, source)
    except _MALFORMED as error:
        msg = f"{source}: the flatbuffer is malformed: {error}"
        raise ConvertModelError(msg, next_step="export the model again") from error


def repair(model: Any) -> None:
    """Give a ``ModelT`` both operator code fields and no description."""
    _repair_codes(model)
    _strip(model)


def pack(model: Any) -> bytes:
    """Serialise a ``ModelT``."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _normalised(content: bytes, source: str) -> FloatModel:
    model = _parse(content, source)
    _repair_codes(model)
    _refuse_custom(model, source)
    graph = model.subgraphs[0]
    _refuse_quantized(graph, source)
    _make_static(graph, source)
    _make_names_unique(graph)
    given = _spec(model, graph, graph.inputs, "input", source)
    found = _spec(model, graph, graph.outputs, "output", source)
    post = _take_softmax_off(model, graph)
    _reshape_instead(model, graph)
    _drop_dead(model, graph)
    _set_signature(model, graph, given, found)
    _strip(model)
    operators = tuple(
        operator_name(model.operatorCodes[one.opcodeIndex].builtinCode)
        for one in graph.operators
    )
    return FloatModel(pack(model), given, found, operators, "litert", post)


def _parse(content: bytes, source: str) -> Any:
    if content[4:8] != _IDENTIFIER:
        msg = f"{source}: expected a LiteRT model (identifier TFL3)"
        msg += f", found {content[4:8]!r} in {len(content)} bytes"
        raise ConvertModelError(msg, next_step="pass a .tflite, .keras or .h5 file")
    try:
        # The runtime's verifier bounds every offset before Python follows one.
        Interpreter(model_content=content)
        return flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip()[:_MAX_REASON]
        msg = f"{source}: the runtime refuses this file: {reason}"
        raise ConvertModelError(msg, next_step="export the model again") from error


def _repair_codes(model: Any) -> None:
    for one in model.operatorCodes:
        one.builtinCode = max(one.builtinCode, one.deprecatedBuiltinCode)
        one.deprecatedBuiltinCode = min(one.builtinCode, _MAX_DEPRECATED_CODE)


def _refuse_custom(model: Any, source: str) -> None:
    custom = sorted(
        {
            one.customCode.decode(errors="replace") if one.customCode else "CUSTOM"
            for one in model.operatorCodes
            if one.customCode or one.builtinCode == _BUILTIN.CUSTOM
        }
    )
    if custom:
        msg = f"{source}: expected built-in operators only, found {', '.join(custom)}"
        raise ConvertOperatorError(
            msg, next_step="replace these layers by ones that LiteRT has built in"
        )


def _refuse_quantized(graph: Any, source: str) -> None:
    names = [
        one.name.decode(errors="replace")
        for one in graph.tensors
        if one.type in _QUANTIZED
    ]
    if names:
        msg = f"{source}: expected a float32 model, found {len(names)} quantized"
        msg += f" tensors, the first is {names[0]!r}"
        raise ConvertModelError(
            msg, next_step="convert the float model, not a quantized one"
        )


def _make_static(graph: Any, source: str) -> None:
    for index in graph.inputs:
        tensor = graph.tensors[index]
        signature = tensor.shapeSignature
        if signature is not None and any(size < 0 for size in signature[1:]):
            msg = f"{source}: expected fixed sizes after the batch"
            msg += f", found input shape {list(signature)}"
            raise ConvertShapeError(msg, next_step="export with a fixed input shape")
    for tensor in graph.tensors:
        tensor.shapeSignature = None


def _make_names_unique(graph: Any) -> None:
    seen: set[bytes] = set()
    for index, tensor in enumerate(graph.tensors):
        name = tensor.name or b"tensor"
        tensor.name = name if name not in seen else name + b"#%d" % index
        seen.add(tensor.name)


def _spec(
    model: Any,
    graph: Any,
    indices: Any,
    role: str,
    source: str,
) -> TensorSpec:
    if len(indices) != 1:
        msg = f"{source}: expected one {role}, found {len(indices)}"
        raise ConvertShapeError(msg, next_step=f"export a model with one {role}")
    tensor = graph.tensors[indices[0]]
    shape = tuple(int(size) for size in tensor.shape)
    if tensor.type != schema.TensorType.FLOAT32:
        msg = f"{source}: expected a float32 {role}, found tensor type {tensor.type}"
        raise ConvertShapeError(
            msg, next_step="convert the float model, not a quantized one"
        )
    if len(shape) < 2 or shape[0] != 1:
        msg = f"{source}: expected an {role} of shape [1, ...], found {list(shape)}"
        raise ConvertShapeError(msg, next_step="export with a batch of one")
    return TensorSpec(_argument_name(model, graph, int(indices[0]), role), shape)


def _argument_name(model: Any, graph: Any, index: int, role: str) -> str:
    for signature in model.signatureDefs or []:
        for one in (*signature.inputs, *signature.outputs):
            if one.tensorIndex == index:
                return str(one.name.decode())
    name = graph.tensors[index].name.decode(errors="replace").split(":")[0]
    return name.removeprefix(f"{SIGNATURE}_") or role


def _set_signature(
    model: Any,
    graph: Any,
    given: TensorSpec,
    found: TensorSpec,
) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.subgraphIndex = 0
    for spec, index, target in (
        (given, graph.inputs[0], "inputs"),
        (found, graph.outputs[0], "outputs"),
    ):
        mapping = schema.TensorMapT()
        mapping.name, mapping.tensorIndex = spec.name, int(index)
        setattr(signature, target, [mapping])
    model.signatureDefs = [signature]


def _reshape_instead(model: Any, graph: Any) -> None:
    replaced = {_BUILTIN.EXPAND_DIMS, _BUILTIN.SQUEEZE}
    reshape_code: int | None = None
    for operator in graph.operators:
        builtin = model.operatorCodes[operator.opcodeIndex].builtinCode
        is_computed = builtin == _BUILTIN.RESHAPE and _is_computed(graph, operator)
        if builtin not in replaced and not is_computed:
            continue
        if reshape_code is None:
            reshape_code = _add_code(model, _BUILTIN.RESHAPE)
        shape = np.array(graph.tensors[operator.outputs[0]].shape, dtype=np.int32)
        options = schema.ReshapeOptionsT()
        options.newShape = shape
        operator.opcodeIndex = reshape_code
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        operator.builtinOptions = options
        operator.inputs = [operator.inputs[0], _add_constant(model, graph, shape)]


def _is_computed(graph: Any, operator: Any) -> bool:
    """Return whether other operators compute the shape of a RESHAPE."""
    made = {int(one) for each in graph.operators for one in each.outputs}
    return len(operator.inputs) > 1 and int(operator.inputs[1]) in made


def _drop_dead(model: Any, graph: Any) -> None:
    """Remove operators that the output does not need: shapes once computed."""
    while True:
        read = {int(one) for each in graph.operators for one in each.inputs}
        read |= {int(one) for one in graph.outputs}
        dead = [one for one in graph.operators if not read & {*map(int, one.outputs)}]
        if not dead:
            break
        outputs = sorted(int(one) for each in dead for one in each.outputs)
        graph.operators = [one for one in graph.operators if one not in dead]
        for index in reversed(outputs):
            _drop_tensor(graph, index)
    _drop_unused_codes(model, graph)


def _take_softmax_off(model: Any, graph: Any) -> tuple[str, ...]:
    """Remove a softmax at the end, and say so; it is the device's post step then."""
    if len(graph.operators) < 2:
        return ()
    last = graph.operators[-1]
    is_softmax = (
        model.operatorCodes[last.opcodeIndex].builtinCode == _BUILTIN.SOFTMAX
        and int(last.outputs[0]) == int(graph.outputs[0])
        and last.builtinOptions.beta == 1.0
        # Of more than class scores, no step of a device takes it.
        and len(graph.tensors[last.outputs[0]].shape) == 2
    )
    readers = [one for one in graph.operators if last.inputs[0] in one.inputs]
    if not is_softmax or len(readers) != 1:
        return ()
    graph.operators.pop()
    graph.outputs = [int(last.inputs[0])]
    _drop_tensor(graph, int(last.outputs[0]))
    _drop_unused_codes(model, graph)
    return ("softmax",)


def _drop_tensor(graph: Any, dropped: int) -> None:
    """Remove a tensor that nothing uses, and renumber those behind it."""

    def moved(indices: Any) -> list[int]:
        return [int(one) - (int(one) > dropped) for one in indices]

    del graph.tensors[dropped]
    graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
    for one in graph.operators:
        one.inputs, one.outputs = moved(one.inputs), moved(one.outputs)
        if one.intermediates is not None:
            one.intermediates = moved(one.intermediates)


def _drop_unused_codes(model: Any, graph: Any) -> None:
    used = sorted({int(one.opcodeIndex) for one in graph.operators})
    model.operatorCodes = [model.operatorCodes[one] for one in used]
    for one in graph.operators:
        one.opcodeIndex = used.index(int(one.opcodeIndex))


def _add_code(model: Any, builtin: int) -> int:
    for index, one in enumerate(model.operatorCodes):
        if one.builtinCode == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = min(builtin, _MAX_DEPRECATED_CODE)
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _add_constant(model: Any, graph: Any, values: Any) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name = b"edge_convert/shape_%d" % len(graph.tensors)
    tensor.shape = [len(values)]
    tensor.type = schema.TensorType.INT32
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _strip(model: Any) -> None:
    model.description = _DESCRIPTION
    model.metadata = [one for one in model.metadata or [] if one.name == _KEPT_METADATA]
    model.metadataBuffer = None


def operator_name(builtin: int) -> str:
    """Return the schema's name of a built-in operator."""
    name: str = _OPERATOR_NAMES.get(builtin, f"operator {builtin}")
    return name
