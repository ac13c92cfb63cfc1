# SPDX-License-Identifier: Apache-2.0
"""Operator versions: what tensor types need, and which runtime is the first to have it.

Owns the two tables beside this module and their use. The quantizer does not write the
versions that its types need; an old runtime then takes, say, a scale a channel for one
a tensor and computes garbage without a word (0.2 dB instead of 42 on the MLPerf anomaly
detector). With the right version it refuses the file.

Runtime versions are TensorFlow's; ``ai-edge-litert`` began anew at 1.0 after 2.16.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
import yaml
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.litert.normalise import operator_name, pack

_METADATA: Final = b"min_runtime_version"
_METADATA_BYTES: Final = 16
_TYPES: Final = schema.TensorType
_WEIGHTED: Final = frozenset(
    {
        "BATCH_MATMUL",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)
# The operators whose versions depend on more than "int8": dequantize and quantize.
_DEQUANTIZE: Final = {"int8": 2, "int8_channel": 5, "float16": 3}
_QUANTIZE: Final = {"plain": 1, "requantize": 2, "channel": 3}


@dataclass(frozen=True, order=True)
class Need:
    """An operator version and the first runtime that has it (TensorFlow's numbers)."""

    operator: str
    version: int
    runtime: str


def set_versions(content: bytes) -> bytes:
    """Return a LiteRT file whose operator codes carry the versions that it needs.

    One code serves several operators; each different version gets a code of its own.
    ``min_runtime_version`` is written from them.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    write_versions(model)
    return pack(model)


def write_versions(model: Any) -> None:
    """Do to a ``ModelT`` what ``set_versions`` does to a file."""
    graph = model.subgraphs[0]
    codes: list[Any] = []
    known: dict[tuple[int, int, bytes], int] = {}
    for one in graph.operators:
        code = model.operatorCodes[one.opcodeIndex]
        version = max(code.version, _needed(one, code, graph))
        key = (code.builtinCode, version, bytes(code.customCode or b""))
        if key not in known:
            known[key] = len(codes)
            codes.append(_copy(code, version))
        one.opcodeIndex = known[key]
    model.operatorCodes = codes
    needs = _needs(codes)
    newest = max((parse(one.runtime) for one in needs), default=(1, 5, 0))
    _write_metadata(model, ".".join(map(str, newest)))


def read_needs(content: bytes) -> tuple[Need, ...]:
    """Return the operators of a LiteRT file, what their versions need, sorted."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return _needs(model.operatorCodes)


def find_lies(content: bytes) -> tuple[str, ...]:
    """Return the operators whose written version is below what their types need."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    found = set()
    for one in graph.operators:
        code = model.operatorCodes[one.opcodeIndex]
        needed = _needed(one, code, graph)
        if code.version < needed:
            name = operator_name(_builtin(code))
            found.add(f"{name}: version {code.version}, its types need {needed}")
    return tuple(sorted(found))


def parse(version: str) -> tuple[int, int, int]:
    """Return a version's three numbers.

    >>> parse("2.17.0") > parse("2.14.0")
    True
    """
    major, minor, patch = (int(one) for one in f"{version}.0.0".split(".")[:3])
    return major, minor, patch


def _needs(codes: list[Any]) -> tuple[Need, ...]:
    table = _load("runtime_versions.yaml")
    found = set()
    for one in codes:
        name = operator_name(_builtin(one))
        runtime = table.get(name, {}).get(one.version, "99.0.0")
        found.add(Need(name, int(one.version), str(runtime)))
    return tuple(sorted(found))


def _needed(operator: Any, code: Any, graph: Any) -> int:
    name = operator_name(_builtin(code))
    tensors = [graph.tensors[one] for one in operator.inputs if one >= 0]
    output = graph.tensors[operator.outputs[0]]
    if not tensors:
        return 1
    first = tensors[0]
    if name == "DEQUANTIZE":
        return _needed_to_dequantize(first)
    if name == "QUANTIZE":
        return _needed_to_quantize(first, output)
    rules: Mapping[str, int] = _load("operator_versions.yaml").get(name, {})
    if first.type == _TYPES.INT8:
        return rules.get("int8", 1)
    weights = tensors[1] if name in _WEIGHTED and len(tensors) > 1 else None
    if weights is None or weights.type != _TYPES.INT8:
        return 1
    kind = "hybrid"
    if getattr(operator.builtinOptions, "asymmetricQuantizeInputs", False):
        kind = "hybrid_asymmetric"
    if _is_per_channel(weights):
        kind = "hybrid_channel"
    return rules.get(kind, rules.get("hybrid", 1))


def _needed_to_dequantize(given: Any) -> int:
    if given.type == _TYPES.FLOAT16:
        return _DEQUANTIZE["float16"]
    if given.type != _TYPES.INT8:
        return 1
    return _DEQUANTIZE["int8_channel" if _is_per_channel(given) else "int8"]


def _needed_to_quantize(given: Any, found: Any) -> int:
    if _is_per_channel(found):
        return _QUANTIZE["channel"]
    return _QUANTIZE["plain" if given.type == _TYPES.FLOAT32 else "requantize"]


def _is_per_channel(tensor: Any) -> bool:
    scales = None if tensor.quantization is None else tensor.quantization.scale
    return scales is not None and len(scales) > 1


def _builtin(code: Any) -> int:
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def _copy(code: Any, version: int) -> Any:
    copy = schema.OperatorCodeT()
    copy.builtinCode = code.builtinCode
    copy.deprecatedBuiltinCode = code.deprecatedBuiltinCode
    copy.customCode = code.customCode
    copy.version = version
    return copy


def _write_metadata(model: Any, runtime: str) -> None:
    data = runtime.encode().ljust(_METADATA_BYTES, b"\0")
    values = np.frombuffer(data, dtype=np.uint8)
    for one in model.metadata or []:
        if one.name == _METADATA:
            model.buffers[one.buffer].data = values
            return
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = values
    model.buffers.append(buffer)
    entry.name, entry.buffer = _METADATA, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]


@cache
def _load(name: str) -> dict[str, dict[Any, Any]]:
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    found: dict[str, dict[Any, Any]] = yaml.safe_load(text)
    return found
