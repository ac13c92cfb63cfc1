# SPDX-License-Identifier: Apache-2.0
"""Activation ranges for static quantization: ours, streamed, equal on every machine.

Owns the smallest and largest value of each float32 activation over the calibration
frames, snapped outward to an 11-bit mantissa. The last bits of an activation differ
between kernels and instruction sets; snapped ranges do not, so the quantized bytes do
not either. Memory does not grow with the number of frames.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.errors import ConvertQuantizeError
from converter.model import FloatModel
from converter.runtimes.litert import Kernels, LitertEngine
from converter.tensors import Float32, Frames

MANTISSA_BITS = 11


@dataclass(frozen=True)
class Range:
    """The values that an activation took."""

    low: float
    high: float


def snap_outward(value: float, *, up: bool) -> float:
    """Return the nearest number with an 11-bit mantissa above or below ``value``.

    >>> snap_outward(1.0001, up=True), snap_outward(-1.0001, up=False)
    (1.0009765625, -1.0009765625)
    """
    if value == 0:
        return 0.0
    mantissa, exponent = math.frexp(value)
    scaled = math.ldexp(mantissa, MANTISSA_BITS)
    whole = math.ceil(scaled) if up else math.floor(scaled)
    return math.ldexp(float(whole), exponent - MANTISSA_BITS)


def activation_ranges(model: FloatModel, frames: Frames) -> Mapping[str, Range]:
    """Run ``frames`` and return each activation's snapped range.

    Raises:
        ConvertQuantizeError: An activation is not finite on some frame.
    """
    names = _activations(model.content)
    engine = LitertEngine(model.content, Kernels.BUILTIN, keep_tensors=True)
    ranges = dict.fromkeys(names.values(), Range(math.inf, -math.inf))
    for position, frame in enumerate(_one_by_one(frames)):
        engine.infer(frame)
        for index, name in names.items():
            low, high = engine.tensor_range(index)
            if not (math.isfinite(low) and math.isfinite(high)):
                msg = f"calibration frame {position}: tensor {name!r} is not finite"
                raise ConvertQuantizeError(
                    msg, next_step="check the frame's values and the model's scaling"
                )
            old = ranges[name]
            ranges[name] = Range(min(old.low, low), max(old.high, high))
    return {
        name: Range(snap_outward(one.low, up=False), snap_outward(one.high, up=True))
        for name, one in ranges.items()
    }


def _one_by_one(frames: Frames) -> Iterator[Float32]:
    for block in frames:
        for position in range(len(block)):
            yield block[position : position + 1]


def _activations(content: bytes) -> dict[int, str]:
    """Return index and name of each float32 tensor that is computed, not stored."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    computed = {int(index) for one in graph.operators for index in one.outputs}
    computed |= {int(index) for index in graph.inputs}
    return {
        index: graph.tensors[index].name.decode()
        for index in sorted(computed)
        if graph.tensors[index].type == schema.TensorType.FLOAT32
    }
