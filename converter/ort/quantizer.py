# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime candidates, made by onnxruntime.quantization with our ranges.

Owns how it is driven and in which order recipes are tried. Inputs and outputs stay
float32. Its calibrators are not used: two of them are the same one, and all hold every
activation of every frame.
"""

import copy
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.calibrate import (
    CalibrationMethod,
    TensorData,
    TensorsData,
)
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from converter.calibrate import Activations, Range, RangeTracker, track
from converter.candidate import Candidate, Recipe
from converter.errors import ConvertQuantizeError
from converter.model import FloatModel
from converter.ort.normalise import serialise
from converter.runtimes.onnxruntime import OnnxEngine
from converter.tensors import Float32, Frames

_STATIC_TYPES: Final = (
    "Add",
    "AveragePool",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Mul",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Transpose",
)
_FOLLOWING_TYPES: Final = frozenset({"Flatten", "Relu", "Reshape", "Transpose"})
_CONVERSIONS: Final = frozenset({"DequantizeLinear", "QuantizeLinear"})
_RENAMED: Final = "_QuantizeLinear_Input"
_HEAVY_TYPES: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_FLOAT_TYPES: Final = frozenset({TensorProto.FLOAT})


class OnnxQuantizer:
    """Makes ONNX Runtime candidates; see ``candidate.Quantizer``."""

    def __init__(self, model: FloatModel) -> None:
        self.model = model
        self._proto = onnx.load_from_string(model.content)
        self._trackers: Mapping[str, RangeTracker] = {}

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names of the outputs of nodes that static quantization decides about."""
        return tuple(
            str(node.output[0])
            for node in self._proto.graph.node
            if node.op_type in _STATIC_TYPES and node.op_type not in _FOLLOWING_TYPES
        )

    def recipes(self) -> tuple[Recipe, ...]:
        """Return the global recipes, float32 first; see ``Quantizer.recipes``."""
        runtime = self.model.runtime
        if not any(one.op_type in _HEAVY_TYPES for one in self._proto.graph.node):
            return (Recipe(runtime, "float32"),)  # trees: nothing to quantize
        static = [
            Recipe(
                runtime, "static", ranges, unsigned=unsigned, reduce_range=reduce_range
            )
            for unsigned, reduce_range in ((True, False), (False, False), (True, True))
            for ranges in ("p99.99", "minmax", "mse", "p99.9")
        ]
        return (
            Recipe(runtime, "float32"),
            *static,
            Recipe(runtime, "static", "p99.99", unsigned=True, per_channel=False),
            Recipe(runtime, "dynamic"),
            Recipe(runtime, "dynamic", per_channel=False),
        )

    def refine(self, recipe: Recipe) -> None:
        """Return None: there is nothing to refine; see ``Quantizer.refine``."""

    def calibrate(self, frames: Frames) -> None:
        """Learn activation ranges; see ``Quantizer.calibrate``."""
        proto = copy.deepcopy(self._proto)
        known = {one.name for one in proto.graph.output}
        float_values = [
            one
            for one in proto.graph.value_info
            if one.type.tensor_type.elem_type in _FLOAT_TYPES and one.name not in known
        ]
        proto.graph.output.extend(float_values)
        names = [one.name for one in proto.graph.output]
        given = proto.graph.input[0].name
        engine = OnnxEngine(serialise(proto), "plain")

        def activations(block: Float32) -> Iterator[Activations]:
            for position in range(len(block)):
                frame = block[position : position + 1]
                found = dict(zip(names, engine.infer_all(frame), strict=True))
                yield {given: frame, **found}

        self._trackers = track(frames, activations)

    def freeze(self, made: Candidate, like: bytes) -> Candidate:
        """Return the candidate: the recipe is kept, its scales are found anew."""
        del like
        return made

    def make(self, recipe: Recipe) -> Candidate:
        """Return the candidate of a recipe; see ``Quantizer.make``."""
        if recipe.scheme == "float32":
            return Candidate(recipe, self.model.content)
        try:
            with _quiet():
                made = (
                    self._static(recipe)
                    if recipe.scheme == "static"
                    else self._dynamic(recipe)
                )
        except Exception as error:  # the library raises many kinds
            msg = f"{recipe.id}: the quantizer refuses the model: {error}"
            raise ConvertQuantizeError(
                msg, next_step="keep the float32 variant"
            ) from error
        return self._candidate(recipe, made)

    def _static(self, recipe: Recipe) -> ModelProto:
        activation = QuantType.QUInt8 if recipe.unsigned else QuantType.QInt8
        quantizer = QDQQuantizer(
            copy.deepcopy(self._proto),
            recipe.per_channel,
            recipe.reduce_range,
            QuantType.QInt8,
            activation,
            self._ranges(recipe),
            [],
            self._excluded(recipe),
            list(_STATIC_TYPES),
            {"ForceQuantizeNoInputCheck": False},
        )
        quantizer.quantize_model()
        made: ModelProto = quantizer.model.model
        return made

    def _dynamic(self, recipe: Recipe) -> ModelProto:
        with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
            path = Path(folder) / "model.onnx"
            quantize_dynamic(
                copy.deepcopy(self._proto),
                path,
                per_channel=recipe.per_channel,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=self._excluded(recipe),
            )
            return onnx.load(path)

    def _excluded(self, recipe: Recipe) -> list[str]:
        kept = set(recipe.kept_float)
        return [
            str(node.name) for node in self._proto.graph.node if node.output[0] in kept
        ]

    def _ranges(self, recipe: Recipe) -> TensorsData:
        method = recipe.ranges or "minmax"
        ranges = {name: one.range(method) for name, one in self._trackers.items()}
        return TensorsData(
            CalibrationMethod.MinMax,
            {name: _tensor_data(one) for name, one in ranges.items()},
        )

    def _candidate(self, recipe: Recipe, made: ModelProto) -> Candidate:
        quantizing = {"QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear"}
        if not any(one.op_type in quantizing for one in made.graph.node):
            msg = f"{recipe.id}: the quantizer left every node float"
            raise ConvertQuantizeError(msg, next_step="keep the float32 variant")
        made.ir_version = self._proto.ir_version
        made.producer_name, made.producer_version = "edge-convert", ""
        del made.metadata_props[:]
        ordered = sorted(made.graph.initializer, key=lambda one: str(one.name))
        del made.graph.initializer[:], made.graph.value_info[:]
        made.graph.initializer.extend(ordered)
        opsets = sorted(made.opset_import, key=lambda one: str(one.domain))
        unique = {one.domain: one for one in opsets}
        del made.opset_import[:]
        made.opset_import.extend(unique.values())
        content = serialise(made)
        # A file that the runtime itself refuses is no candidate.
        OnnxEngine(content)
        if recipe.scheme != "static":
            return Candidate(recipe, content)
        stayed = _float_nodes(made)
        kept = tuple(one for one in self.operators if one in stayed)
        return Candidate(recipe, content, _output_step(made), kept)


def _tensor_data(one: Range) -> TensorData:
    return TensorData(
        lowest=np.array(one.low, dtype=np.float32),
        highest=np.array(one.high, dtype=np.float32),
    )


def _float_nodes(made: ModelProto) -> set[str]:
    """Return the outputs of nodes whose data or weights do not come from integers.

    The library gives an output that is quantized again another name.
    """
    dequantized = {
        str(one.output[0])
        for one in made.graph.node
        if one.op_type == "DequantizeLinear"
    }
    return {
        str(one.output[0]).removesuffix(_RENAMED)
        for one in made.graph.node
        if one.op_type not in _CONVERSIONS
        and not set(one.input[: 2 if one.op_type in _HEAVY_TYPES else 1]) <= dequantized
    }


def _output_step(made: ModelProto) -> float:
    """Return the scale with which the output is dequantized."""
    output = made.graph.output[0].name
    weights = {one.name: one for one in made.graph.initializer}
    for one in made.graph.node:
        if one.op_type == "DequantizeLinear" and output in one.output:
            scale = onnx.numpy_helper.to_array(weights[one.input[1]])
            return float(np.ravel(scale)[0])
    return 0.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's advice about its own preprocessing off the terminal."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
