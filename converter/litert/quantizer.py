# SPDX-License-Identifier: Apache-2.0
"""LiteRT candidates, made by ai-edge-quantizer.

Owns how ai-edge-quantizer is driven. Inputs and outputs stay float32 in every variant,
so that quantization of IO is never the agent's matter. Which variant is chosen is in
``choose``.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer
from ai_edge_quantizer import recipe as recipes

from converter.candidate import Candidate, Recipe
from converter.errors import ConvertQuantizeError
from converter.litert.normalise import repair_quantized
from converter.litert.ranges import Range, activation_ranges
from converter.model import FloatModel
from converter.tensors import Frames

_FLOAT_IO: list[dict[str, Any]] = [
    {
        "regex": ".*",
        "operation": operation,
        "algorithm_key": "no_quantize",
        "op_config": {},
    }
    for operation in ("INPUT", "OUTPUT")
]


class LitertQuantizer:
    """Makes LiteRT candidates; see ``candidate.Quantizer``."""

    def __init__(self, model: FloatModel) -> None:
        self.model = model
        self._ranges: Mapping[str, Range] = {}

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators that can be quantized."""
        return ()

    def recipes(self) -> tuple[Recipe, ...]:
        """Return float32 and static int8."""
        return Recipe("litert", "float32"), Recipe("litert", "static", "minmax")

    def calibrate(self, frames: Frames) -> None:
        """Learn activation ranges."""
        self._ranges = activation_ranges(self.model, frames)

    def make(self, recipe: Recipe) -> Candidate:
        """Return the candidate of a recipe."""
        if recipe.scheme == "float32":
            return Candidate(recipe, self.model.content)
        return static_candidate(self.model, recipe, self._ranges)


def static_candidate(
    model: FloatModel, recipe: Recipe, ranges: Mapping[str, Range]
) -> Candidate:
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
        msg = f"{recipe.id}: the quantizer refuses the model: {error}"
        raise ConvertQuantizeError(msg, next_step="keep the float32 variant") from error
    content = repair_quantized(found)
    graph_model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    step = _output_step(graph_model)
    if step == 0:
        msg = f"{recipe.id}: the quantizer left the output float"
        raise ConvertQuantizeError(msg, next_step="keep the float32 variant")
    return Candidate(recipe, content, step, _float_operators(graph_model))


def _quantize(content: bytes, ranges: dict[str, Any]) -> bytes:
    work = quantizer.Quantizer(content)
    work.load_quantization_recipe([*recipes.static_wi8_ai8(), *_FLOAT_IO])
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
