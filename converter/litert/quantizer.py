# SPDX-License-Identifier: Apache-2.0
"""LiteRT candidates, made by ai-edge-quantizer with our ranges.

Owns how ai-edge-quantizer is driven and in which order recipes are tried. Inputs and
outputs stay float32 in every variant, so that quantization of IO is never the agent's
matter. Which variant is chosen is in ``choose``.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer
from ai_edge_quantizer import recipe as recipes

from converter.calibrate import Range, RangeTracker
from converter.candidate import Candidate, RangeMethod, Recipe
from converter.errors import ConvertQuantizeError
from converter.litert.correct import Means, corrected, float_means
from converter.litert.equalise import equalised
from converter.litert.freeze import frozen
from converter.litert.normalise import pack, repair
from converter.litert.ranges import track_activations
from converter.litert.versions import set_versions, write_versions
from converter.model import FloatModel
from converter.runtimes.litert import Kernels
from converter.tensors import Frames

_FAILURES: Final = (ValueError, RuntimeError, KeyError, TypeError, IndexError)
_CONVERSIONS: Final = frozenset(
    {schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE}
)
Entry = dict[str, Any]


class LitertQuantizer:
    """Makes LiteRT candidates; see ``candidate.Quantizer``.

    Args:
        model: The float model.
        kernels: Which compute the activations; ranges come out alike.
    """

    def __init__(self, model: FloatModel, kernels: Kernels = Kernels.BUILTIN) -> None:
        self.model = model
        self._kernels = kernels
        self._plain = _Calibrated(model, None, kernels)
        self._equalised: _Calibrated | None = None

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators that static quantization reaches."""
        everything = self.make(Recipe("litert", "static", "minmax"))
        graph, codes = _graph(everything.content)
        names = [
            graph.tensors[one.outputs[0]].name.decode(errors="replace")
            for one in graph.operators
            if codes[one.opcodeIndex] not in _CONVERSIONS
            and graph.tensors[one.outputs[0]].type != schema.TensorType.FLOAT32
        ]
        known = {name.decode(errors="replace") for name in self._outputs}
        # The quantizer marks the tensor that it puts behind an operator's own.
        plain = (name.removesuffix("_quantized") for name in names)
        return tuple(name for name in plain if name in known)

    @cached_property
    def _outputs(self) -> tuple[bytes, ...]:
        graph, _ = _graph(self.model.content)
        return tuple(graph.tensors[one.outputs[0]].name for one in graph.operators)

    def recipes(self) -> tuple[Recipe, ...]:
        """Return the global recipes, float32 first; see ``Quantizer.recipes``."""
        static = [
            Recipe("litert", "static", ranges, per_channel=per_channel)
            for per_channel in (True, False)
            for ranges in ("p99.99", "minmax", "mse", "p99.9")
        ]
        even = [
            Recipe("litert", "static", "minmax", is_equalised=True),
            Recipe("litert", "static", "mse", is_equalised=True),
            Recipe("litert", "dynamic", is_equalised=True),
        ]
        return (
            Recipe("litert", "float32"),
            *static[:2],
            Recipe("litert", "dynamic"),
            *(even if self._equalised is not None else ()),
            Recipe("litert", "dynamic", per_channel=False),
            *static[2:],
            Recipe("litert", "float16"),
            Recipe("litert", "weight-only"),
        )

    def refine(self, recipe: Recipe) -> Recipe | None:
        """Return the recipe with its biases corrected; see ``Quantizer.refine``."""
        if recipe.scheme not in {"static", "dynamic"} or recipe.is_corrected:
            return None
        return replace(recipe, is_corrected=True)

    def calibrate(self, frames: Frames) -> None:
        """Learn activation ranges; see ``Quantizer.calibrate``."""
        self._plain = _Calibrated(self.model, frames, self._kernels)
        self._equalised = None
        even = equalised(self.model.content, frames, self._kernels)
        if even is not None:
            model = replace(self.model, content=even)
            self._equalised = _Calibrated(model, frames, self._kernels)

    def make(self, recipe: Recipe) -> Candidate:
        """Return the candidate of a recipe; see ``Quantizer.make``."""
        if recipe.scheme == "float32":
            return Candidate(recipe, set_versions(self.model.content))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice about the quantizer's memory
                found = self._quantized(recipe)
        except _FAILURES as error:
            msg = f"{recipe.id}: the quantizer refuses the model: {error}"
            raise ConvertQuantizeError(
                msg, next_step="keep the float32 variant"
            ) from error
        made = _candidate(recipe, found)
        if not recipe.is_corrected:
            return made
        means = self._base(recipe).means
        return replace(made, content=corrected(made.content, means))

    def freeze(self, made: Candidate, like: bytes) -> Candidate:
        """Move a candidate onto an earlier grid; see ``Quantizer.freeze``."""
        base = self._base(made.recipe).model.content
        return _candidate(made.recipe, frozen(made.content, like, base))

    def _base(self, recipe: Recipe) -> "_Calibrated":
        base = self._equalised if recipe.is_equalised else self._plain
        if base is None:
            msg = f"{recipe.id}: no layers of this model can be equalised"
            raise ConvertQuantizeError(msg, next_step="use the recipe without it")
        return base

    def _quantized(self, recipe: Recipe) -> bytes:
        base = self._base(recipe)
        work = quantizer.Quantizer(base.model.content)
        work.load_quantization_recipe(_entries(recipe))
        is_static = recipe.scheme == "static"
        ranges = base.ranges(recipe.ranges or "minmax") if is_static else None
        found = work.quantize(ranges, enable_progress_report=False)
        return bytes(found.quantized_model)


class _Calibrated:
    """A float model and what calibration left of its activations."""

    def __init__(
        self, model: FloatModel, frames: Frames | None, kernels: Kernels
    ) -> None:
        self.model = model
        self._frames = frames
        self._trackers: Mapping[str, RangeTracker] = {}
        self._ranges: dict[RangeMethod, Mapping[str, Range]] = {}
        if frames is not None:
            self._trackers = track_activations(model, frames, kernels)

    @cached_property
    def means(self) -> Means:
        """Means of activations over some of the frames."""
        if self._frames is None:
            msg = "bias correction: no frames were given to calibrate with"
            raise ConvertQuantizeError(msg, next_step="calibrate first")
        return float_means(self.model.content, self._frames)

    def ranges(self, method: RangeMethod) -> Entry:
        """Return ranges as ai-edge-quantizer takes them."""
        if method not in self._ranges:
            self._ranges[method] = {
                name: one.range(method) for name, one in self._trackers.items()
            }
        return {
            name: {
                "min": np.array([[one.low]], dtype=np.float32),
                "max": np.array([[one.high]], dtype=np.float32),
            }
            for name, one in self._ranges[method].items()
        }


def _entries(recipe: Recipe) -> list[Entry]:
    """Return ai-edge-quantizer's recipe; later entries win."""
    granularity = "CHANNELWISE" if recipe.per_channel else "TENSORWISE"
    if recipe.scheme == "static":
        entries = recipes.static_wi8_ai8()
    elif recipe.scheme == "dynamic":
        entries = recipes.dynamic_wi8_afp32()
    elif recipe.scheme == "weight-only":
        entries = recipes.weight_only_wi8_afp32()
    else:
        entries = [_half_precision()]
    for one in entries:
        weights = one["op_config"].get("weight_tensor_config")
        if recipe.scheme != "float16" and weights is not None:
            weights["granularity"] = granularity
    kept = [_untouched(".*", operation) for operation in ("INPUT", "OUTPUT")]
    if recipe.kept_float:
        names = "|".join(re.escape(name) for name in recipe.kept_float)
        kept.append(_untouched(f"^(?:{names});?$", "*"))
    return [*entries, *kept]


def _half_precision() -> Entry:
    return {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": "float_casting",
        "op_config": {
            "weight_tensor_config": {
                "num_bits": 16,
                "symmetric": True,
                "granularity": "TENSORWISE",
                "dtype": "FLOAT",
            },
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
            "skip_checks": False,
            "min_weight_elements": 0,
        },
    }


def _untouched(regex: str, operation: str) -> Entry:
    return {
        "regex": regex,
        "operation": operation,
        "algorithm_key": "no_quantize",
        "op_config": {},
    }


def _candidate(recipe: Recipe, content: bytes) -> Candidate:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    repair(model)
    write_versions(model)
    content = pack(model)
    graph = model.subgraphs[0]
    codes = [one.builtinCode for one in model.operatorCodes]
    stored = {
        int(one.type)
        for one in graph.tensors
        if one.type in {schema.TensorType.INT8, schema.TensorType.FLOAT16}
    }
    if not stored:
        msg = f"{recipe.id}: the quantizer left every tensor float"
        raise ConvertQuantizeError(msg, next_step="keep the float32 variant")
    if recipe.scheme != "static":
        return Candidate(recipe, content)
    stayed = tuple(
        graph.tensors[one.outputs[0]].name.decode(errors="replace")
        for one in graph.operators
        if codes[one.opcodeIndex] not in _CONVERSIONS
        and graph.tensors[one.outputs[0]].type == schema.TensorType.FLOAT32
    )
    return Candidate(recipe, content, _output_step(graph, codes), stayed)


def _output_step(graph: Any, codes: list[int]) -> float:
    """Return the scale of the tensor from which the float output is dequantized."""
    for operator in graph.operators:
        is_last = int(operator.outputs[0]) == int(graph.outputs[0])
        is_conversion = codes[operator.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE
        if is_last and is_conversion:
            quantized = graph.tensors[operator.inputs[0]]
            return float(quantized.quantization.scale[0])
    return 0.0


def _graph(content: bytes) -> tuple[Any, list[int]]:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return model.subgraphs[0], [one.builtinCode for one in model.operatorCodes]
