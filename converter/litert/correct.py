# SPDX-License-Identifier: Apache-2.0
"""Bias correction of an int8 LiteRT file: better means at no cost on the device.

Rounded weights shift the mean of every channel; the bias can take the shift back (Nagel
et al. 2019, arXiv 1906.04721, section 4.2). Operators are corrected in order, each on
the corrected outputs of those before it: corrected all at once, errors that cancelled
each other do not any more.

Each operator runs alone, on the reference kernels, which count in integers; corrections
are whole parts of an output step. Ranges and recipes are others' matter.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from converter.errors import ConvertQuantizeError
from converter.litert.normalise import pack
from converter.litert.parts import cut_operator
from converter.runtimes.litert import Kernels, LitertEngine
from converter.tensors import Float32, Float64, Frames

_WEIGHTED: Final = frozenset(
    {
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
    }
)
_MOST_FRAMES: Final = 64
_FEWEST_FRAMES: Final = 4
# Multiplications that one correction may take; a big model gets fewer frames.
_MOST_PRODUCTS: Final = 2**28
# A correction is a whole number of these parts of an output step (of a 256th of the
# largest output, where that is float). Means differ between kernels in their last bits:
# as long as none falls between two parts, the bytes are equal.
_PARTS: Final = 4
_LEVELS: Final = 256
_INT32: Final = np.iinfo(np.int32)
# What the quantizer puts behind an operator's own name.
_MARK: Final = "_quantized"

Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Means:
    """What a float model computes in the mean.

    Attributes:
        frames: float32 [n, ...], the frames they are over.
        by_name: Tensor to the mean of each channel, float64 [C].
    """

    frames: Float32
    by_name: Mapping[str, Float64]


def float_means(content: bytes, frames: Frames) -> Means:
    """Return the means of the outputs of operators with weights, a channel.

    Args:
        content: A float model.
        frames: Calibration frames; up to 64, evenly spaced, are used.
    """
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    codes = [one.builtinCode for one in model.operatorCodes]
    heavy = [one for one in graph.operators if codes[one.opcodeIndex] in _WEIGHTED]
    count = min(len(frames), _frame_count(graph, heavy))
    taken = frames.take(np.linspace(0, len(frames) - 1, count).astype(np.int64))
    engine = LitertEngine(content, Kernels.REFERENCE, keep_tensors=True)
    sums: dict[str, Float64] = {}
    for position in range(count):
        engine.infer(taken[position : position + 1])
        for one in heavy:
            index = int(one.outputs[0])
            name = graph.tensors[index].name.decode(errors="replace")
            found = _channel_means(engine.tensor(index))
            sums[name] = sums.get(name, np.float64(0)) + found
    return Means(taken, {name: one / count for name, one in sums.items()})


def corrected(content: bytes, means: Means) -> bytes:
    """Return a static or dynamic int8 file, its biases corrected towards ``means``.

    Raises:
        ConvertQuantizeError: An operator cannot run alone, or nothing can be corrected.
    """
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    try:
        count = _Correction(model, means).run()
    except (ValueError, RuntimeError, KeyError) as error:
        msg = f"bias correction: an operator does not run alone: {error}"
        raise ConvertQuantizeError(
            msg, next_step="use the recipe without it"
        ) from error
    if not count:
        msg = "bias correction: no int8 operator has a bias of its own"
        raise ConvertQuantizeError(msg, next_step="use the recipe without it")
    return pack(model)


class _Correction:
    """One walk over the operators of a quantized model, for all frames at each."""

    def __init__(self, model: Any, means: Means) -> None:
        self._model = model
        self._graph = model.subgraphs[0]
        self._codes = [one.builtinCode for one in model.operatorCodes]
        self._means = means
        self._values: dict[int, list[Values]] = {
            int(self._graph.inputs[0]): list(means.frames[:, np.newaxis])
        }

    def run(self) -> int:
        """Correct in place; return how many operators were."""
        count = 0
        last = self._last_readers()
        for position in range(len(self._graph.operators)):
            self._step(position)
            target = self._target(position)
            if target is not None:
                count += 1
                self._correct(position, target)
                self._step(position)
            for index in [one for one in self._values if last.get(one) == position]:
                del self._values[index]
        return count

    def _last_readers(self) -> dict[int, int]:
        return {
            int(index): position
            for position, one in enumerate(self._graph.operators)
            for index in one.inputs
        }

    def _step(self, position: int) -> None:
        """Run one operator on what is kept of its inputs."""
        operator = self._graph.operators[position]
        runner = Interpreter(
            model_content=cut_operator(self._model, position),
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        )
        runner.allocate_tensors()
        given = [int(one) for one in operator.inputs if int(one) in self._values]
        slots = [one["index"] for one in runner.get_input_details()]
        ends = [one["index"] for one in runner.get_output_details()]
        if len(slots) != len(given):
            raise ValueError(f"operator {position} has inputs that nothing computed")
        found: list[list[Values]] = [[] for _ in ends]
        for frame in range(len(self._means.frames)):
            for slot, index in zip(slots, given, strict=True):
                runner.set_tensor(slot, self._values[index][frame])
            runner.invoke()
            for kept, end in zip(found, ends, strict=True):
                kept.append(runner.get_tensor(end))
        for index, kept in zip(operator.outputs, found, strict=True):
            self._values[int(index)] = kept

    def _target(self, position: int) -> Float64 | None:
        """Return the float means where the operator's bias may be corrected."""
        operator = self._graph.operators[position]
        if self._codes[operator.opcodeIndex] not in _WEIGHTED:
            return None
        used = [int(one) for one in operator.inputs]
        if len(used) < 3 or used[2] < 0:
            return None
        if self._graph.tensors[used[1]].type != schema.TensorType.INT8:
            return None
        readers = [one for one in self._graph.operators if used[2] in list(one.inputs)]
        if len(readers) != 1:
            return None
        output = self._graph.tensors[operator.outputs[0]]
        name = output.name.decode(errors="replace").removesuffix(_MARK)
        return self._means.by_name.get(name)

    def _correct(self, position: int, target: Float64) -> None:
        """Move the bias by what the mean is off."""
        operator = self._graph.operators[position]
        output = self._graph.tensors[operator.outputs[0]]
        values = self._values[int(operator.outputs[0])]
        found = sum(_channel_means(one) for one in values) / len(values)
        if not np.isfinite(found).all():
            name = output.name.decode(errors="replace")
            raise ValueError(f"tensor {name!r} is not finite")
        bias = self._graph.tensors[int(operator.inputs[2])]
        before = bytes(self._model.buffers[bias.buffer].data)
        if output.type == schema.TensorType.INT8:
            step = float(output.quantization.scale[0])
            found = (found - int(output.quantization.zeroPoint[0])) * step
            moved = _in_parts(target - found, step) / np.float64(
                bias.quantization.scale
            )
            whole = np.frombuffer(before, "<i4") + np.round(moved)
            after = np.clip(whole, _INT32.min, _INT32.max).astype("<i4").tobytes()
        else:
            peak = max(float(np.abs(one).max()) for one in values)
            step = 2.0 ** math.ceil(math.log2(peak)) / _LEVELS if peak else 1.0
            moved = _in_parts(target - found, step)
            after = (np.frombuffer(before, "<f4") + moved).astype("<f4").tobytes()
        self._store(bias, after)

    def _store(self, tensor: Any, data: bytes) -> None:
        """Give a tensor other content, and only this one."""
        fresh = schema.BufferT()
        fresh.data = np.frombuffer(data, dtype=np.uint8)
        if sum(one.buffer == tensor.buffer for one in self._graph.tensors) == 1:
            self._model.buffers[tensor.buffer] = fresh
        else:
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(fresh)


def _in_parts(values: Float64, step: float) -> Float64:
    """Return values rounded to whole parts of a step.

    >>> _in_parts(np.array([0.3, -0.1]), 1.0).tolist()
    [0.25, -0.0]
    """
    found: Float64 = np.round(values / step * _PARTS) * (step / _PARTS)
    return found


def _channel_means(values: Values) -> Float64:
    flat = values.reshape(-1, values.shape[-1])
    found: Float64 = flat.mean(axis=0, dtype=np.float64)
    return found


def _frame_count(graph: Any, heavy: list[Any]) -> int:
    """Return how many frames a correction takes, by the model's multiplications."""
    products = 0
    for one in heavy:
        weights = graph.tensors[one.inputs[1]].shape
        output = graph.tensors[one.outputs[0]].shape
        products += math.prod(output) * math.prod(weights) // int(output[-1])
    wanted = _MOST_PRODUCTS // max(1, products)
    return max(_FEWEST_FRAMES, min(_MOST_FRAMES, wanted))
