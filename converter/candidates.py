# SPDX-License-Identifier: Apache-2.0
"""The variants that a build considers: float32 and static int8.

Owns how ai-edge-quantizer is driven. Inputs and outputs stay float32 in every variant,
so that quantization of IO is never the agent's matter. Which variant is chosen is in
``choose``.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer, recipe

from converter.calibration import Range
from converter.errors import ConvertQuantizeError
from converter.normalise import FloatModel, repair_quantized

FLOAT_ID = "litert-float32"
INT8_ID = "litert-int8"
_FLOAT_IO: list[dict[str, Any]] = [
    {
        "regex": ".*",
        "operation": operation,
        "algorithm_key": "no_quantize",
        "op_config": {},
    }
    for operation in ("INPUT", "OUTPUT")
]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A variant to be measured.

    Attributes:
        id: Its id in the bundle.
        dtype: ``float32`` or ``int8``.
        content: The LiteRT flatbuffer.
        output_step: The step between two neighbouring outputs of a quantized
            variant; 0 for float.
        float_operators: Operators that stayed float in a quantized variant.
    """

    id: str
    dtype: Literal["float32", "int8"]
    content: bytes
    output_step: float = 0.0
    float_operators: tuple[str, ...] = ()


def float_candidate(model: FloatModel) -> Candidate:
    """Return the float32 variant."""
    return Candidate(FLOAT_ID, "float32", model.content)


def int8_candidate(model: FloatModel, ranges: Mapping[str, Range]) -> Candidate:
    """Return the static int8 variant: per-channel weights, activations in ``ranges``.

    Raises:
        ConvertQuantizeError: The quantizer refuses the model or leaves it float.
    """
    given = {
        name: {
            "min": np.array([[one.low]], dtype=np.float32),
            "max": np.array([[one.high]], dtype=np.float32),
        }
        for name, one in ranges.items()
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about the quantizer's own memory
            found = _quantize(model.content, given)
    except (ValueError, RuntimeError, KeyError, TypeError, IndexError) as error:
        msg = f"int8: the quantizer refuses the model: {error}"
        raise ConvertQuantizeError(msg, next_step="keep the float32 variant") from error
    content = repair_quantized(found)
    graph_model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    step = _output_step(graph_model)
    if step == 0:
        msg = "int8: the quantizer left the output float"
        raise ConvertQuantizeError(msg, next_step="keep the float32 variant")
    stayed = _float_operators(graph_model)
    return Candidate(INT8_ID, "int8", content, step, stayed)


def _quantize(content: bytes, ranges: dict[str, Any]) -> bytes:
    work = quantizer.Quantizer(content)
    work.load_quantization_recipe([*recipe.static_wi8_ai8(), *_FLOAT_IO])
    found = work.quantize(ranges, enable_progress_report=False)
    return bytes(found.quantized_model)


def _output_step(model: Any) -> float:
    """Return the scale of the tensor from which the float output is dequantized."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        is_last = int(operator.outputs[0]) == int(graph.outputs[0])
        if is_last and code == schema.BuiltinOperator.DEQUANTIZE:
            quantized = graph.tensors[operator.inputs[0]]
            return float(quantized.quantization.scale[0])
    return 0.0


def _float_operators(model: Any) -> tuple[str, ...]:
    """Return the names of tensors that operators other than conversions left float."""
    graph = model.subgraphs[0]
    between = {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}
    return tuple(
        graph.tensors[one.outputs[0]].name.decode(errors="replace")
        for one in graph.operators
        if model.operatorCodes[one.opcodeIndex].builtinCode not in between
        and graph.tensors[one.outputs[0]].type == schema.TensorType.FLOAT32
    )
