# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalization of a float LiteRT model: the same function, easier ranges.

Between two convolutions with nothing or a ReLU between them, a channel may be scaled up
by the first and down again by the second (Nagel et al. 2019, arXiv 1906.04721; Meller
et al. 2019, arXiv 1902.01917). One int8 range a tensor then fits small channels too, at
no cost on the device. How far channels move towards the largest is what makes the
predicted noise behind the second operator least: activations gain resolution, its
weights lose some. Every scale is a power of two: float outputs stay the same bits, and
last bits of a peak that differ between kernels do not move it.

Owns which operators pair and the scales. Ranges are ``ranges``' matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.litert.normalise import pack
from converter.runtimes.litert import Kernels, LitertEngine
from converter.tensors import Float32, Float64, Frames

_BUILTIN: Final = schema.BuiltinOperator
_ACTIVATION: Final = schema.ActivationFunctionType
# The axis of the weights that an operator's output, or input, channels lie along.
_OUTPUT_AXIS: Final = {
    _BUILTIN.CONV_2D: 0,
    _BUILTIN.DEPTHWISE_CONV_2D: 3,
    _BUILTIN.FULLY_CONNECTED: 0,
}
_INPUT_AXIS: Final = {
    _BUILTIN.CONV_2D: 3,
    _BUILTIN.DEPTHWISE_CONV_2D: 3,
    _BUILTIN.FULLY_CONNECTED: 1,
}
# Shares of the way to the largest channel, in octaves, that are compared.
_SHARES: Final = tuple(step / 8 for step in range(9))
_MOST_OCTAVES: Final = 10
_DEAD: Final = 1e-6
_ACTIVATION_STEPS: Final = 255
_WEIGHT_STEPS: Final = 127


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two operators with one tensor between them; weights and bias by tensor index.

    ``filter_axis`` is the axis of the second's weights that has a scale a channel.
    """

    between: int
    first: int
    first_axis: int
    bias: int
    second: int
    second_axis: int
    filter_axis: int


@dataclass(frozen=True, eq=False)
class _Channels:
    """What the frames leave of a tensor: float64 [C], magnitude and mean square."""

    peaks: Float64
    powers: Float64


def equalised(
    content: bytes, frames: Frames, kernels: Kernels = Kernels.BUILTIN
) -> bytes | None:
    """Return the model with its channels evened out, by the peaks of ``frames``.

    Returns:
        The file, or None where no operators pair or no channel needs scaling.
    """
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    pairs = tuple(_pairs(model))
    if not pairs:
        return None
    seen = _channels(content, [one.between for one in pairs], frames, kernels)
    is_changed = False
    for one in pairs:
        weights = _weights(model, one.second).astype(np.float64)
        scales = best_scales(
            seen[one.between].peaks,
            seen[one.between].powers,
            np.moveaxis(weights, one.second_axis, -1),
            is_depthwise=one.filter_axis == one.second_axis,
        )
        is_changed = is_changed or bool((scales != 1).any())
        _scale(model, one.first, one.first_axis, scales)
        if one.bias >= 0:
            _scale(model, one.bias, 0, scales)
        _scale(model, one.second, one.second_axis, np.reciprocal(scales))
    return pack(model) if is_changed else None


def best_scales(
    peaks: Float64, powers: Float64, weights: Float64, *, is_depthwise: bool
) -> Float32:
    """Return the power of two by which each channel is scaled.

    Args:
        peaks: float64 [C], the largest magnitude of each channel.
        powers: float64 [C], the mean square of each channel.
        weights: float64 [..., C], of the second operator; filters along the first axis
            unless ``is_depthwise``, where a channel is a filter.
        is_depthwise: Whether each of the second's outputs sees one channel only.

    Returns:
        float32 [C]; ones where every move costs more than it gains.
    """
    choices = [octaves(peaks, share) for share in _SHARES]
    noise = [
        _noise(peaks, powers * one**2, weights / one, is_depthwise=is_depthwise)
        for one in choices
    ]
    return choices[int(np.argmin(noise))]


def octaves(peaks: Float64, share: float) -> Float32:
    """Return the scales that move channels a share of the way to the largest.

    >>> octaves(np.array([8.0, 2.0, 0.5, 0.0]), 0.5).tolist()
    [1.0, 2.0, 4.0, 1.0]
    """
    scales = np.ones(len(peaks), dtype=np.float32)
    live = peaks > _DEAD
    if live.any():
        short = np.log2(peaks[live].max()) - np.log2(peaks[live])
        scales[live] = np.exp2(np.minimum(np.round(short * share), _MOST_OCTAVES))
    return scales


def _noise(
    peaks: Float64, powers: Float64, weights: Float64, *, is_depthwise: bool
) -> float:
    """Return the predicted noise behind the second operator, less what is constant.

    A value rounded to a step has an error of a twelfth of the step squared. Activations
    have one step (the largest peak stays), weights one a filter.
    """
    step = float(peaks.max()) / _ACTIVATION_STEPS
    from_activations = step**2 / 12 * float((weights**2).sum())
    if is_depthwise:
        return from_activations  # a filter's own scale follows its only channel
    filters = np.abs(weights).reshape(len(weights), -1).max(axis=1) / _WEIGHT_STEPS
    taps = weights[0].size // weights.shape[-1]
    return from_activations + float((filters**2).sum() / 12 * taps * powers.sum())


def _pairs(model: Any) -> Iterator[_Pair]:
    graph = model.subgraphs[0]
    codes = [one.builtinCode for one in model.operatorCodes]
    kinds = [codes[one.opcodeIndex] for one in graph.operators]
    readers: dict[int, list[int]] = {}
    for position, one in enumerate(graph.operators):
        for index in one.inputs:
            readers.setdefault(int(index), []).append(position)
    ends = {int(one) for one in graph.outputs}
    for first, kind in zip(graph.operators, kinds, strict=True):
        between = int(first.outputs[0])
        found = readers.get(between, [])
        if kind not in _OUTPUT_AXIS or between in ends or len(found) != 1:
            continue
        second, after = graph.operators[found[0]], kinds[found[0]]
        if after not in _INPUT_AXIS or int(second.inputs[0]) != between:
            continue
        pair = _Pair(
            between,
            int(first.inputs[1]),
            _OUTPUT_AXIS[kind],
            int(first.inputs[2]) if len(first.inputs) > 2 else -1,
            int(second.inputs[1]),
            _INPUT_AXIS[after],
            _OUTPUT_AXIS[after],
        )
        if _is_scalable(model, first, pair, readers):
            yield pair


def _is_scalable(
    model: Any, first: Any, pair: _Pair, readers: dict[int, list[int]]
) -> bool:
    """Whether both weights are float32 constants of their own, channel for channel."""
    graph = model.subgraphs[0]
    if first.builtinOptions.fusedActivationFunction not in {
        _ACTIVATION.NONE,
        _ACTIVATION.RELU,
    }:
        return False
    channels = int(graph.tensors[pair.between].shape[-1])
    used = [pair.first, pair.second, *([pair.bias] if pair.bias >= 0 else [])]
    buffers = [one.buffer for one in graph.tensors]
    axes = {pair.first: pair.first_axis, pair.second: pair.second_axis, pair.bias: 0}
    return all(
        graph.tensors[index].type == schema.TensorType.FLOAT32
        and model.buffers[graph.tensors[index].buffer].data is not None
        and len(readers[index]) == 1
        and buffers.count(graph.tensors[index].buffer) == 1
        and graph.tensors[index].shape[axes[index]] == channels
        for index in used
    )


def _channels(
    content: bytes, indices: list[int], frames: Frames, kernels: Kernels
) -> dict[int, _Channels]:
    """Return what all frames leave of each tensor."""
    engine = LitertEngine(content, kernels, keep_tensors=True)
    peaks: dict[int, Float64] = {}
    sums: dict[int, Float64] = {}
    for block in frames:
        for position in range(len(block)):
            engine.infer(block[position : position + 1])
            for index in indices:
                values = engine.tensor(index)
                flat = values.reshape(-1, values.shape[-1])
                found = np.abs(flat).max(axis=0).astype(np.float64)
                power = np.square(flat).mean(axis=0, dtype=np.float64)
                peaks[index] = np.maximum(found, peaks.get(index, found))
                sums[index] = sums.get(index, np.zeros_like(power)) + power
    count = len(frames)
    return {one: _Channels(peaks[one], sums[one] / count) for one in indices}


def _weights(model: Any, index: int) -> Float32:
    tensor = model.subgraphs[0].tensors[index]
    stored = model.buffers[tensor.buffer].data
    found: Float32 = np.frombuffer(bytes(stored), "<f4").reshape(tensor.shape)
    return found


def _scale(model: Any, index: int, axis: int, scales: Float32) -> None:
    tensor = model.subgraphs[0].tensors[index]
    shape = [1] * len(tensor.shape)
    shape[axis] = len(scales)
    scaled = (_weights(model, index) * scales.reshape(shape)).astype("<f4")
    data = np.frombuffer(scaled.tobytes(), dtype=np.uint8)
    model.buffers[tensor.buffer].data = data
