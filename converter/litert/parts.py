# SPDX-License-Identifier: Apache-2.0
"""The operators of a LiteRT file, and each as a file of its own, to be timed.

Owns cutting one out with its stored tensors. Operators that the runtime fuses cost less
together than apart: the times say where the work is, not what the whole takes.
"""

import copy
import math
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from converter.candidate import Part
from converter.litert.normalise import operator_name, pack

_ROUNDS: Final = 9
_CALLS: Final = 20
_CONVERSIONS: Final = frozenset({"DEQUANTIZE", "QUANTIZE"})
_MARK: Final = "_quantized"


def time_operators(content: bytes) -> list[float]:
    """Return the median microseconds of each operator alone, on XNNPACK, one thread.

    An operator that cannot run alone has NaN.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    runners = [
        _runner(cut_operator(model, index))
        for index in range(len(model.subgraphs[0].operators))
    ]
    samples: list[list[float]] = [[] for _ in runners]
    for _ in range(_ROUNDS):
        for found, runner in zip(samples, runners, strict=True):
            if runner is not None:
                found.append(_microseconds(runner))
    return [float(np.median(one)) if one else float("nan") for one in samples]


def read_parts(content: bytes) -> tuple[Part, ...]:
    """Return the operators of a file, without those that only convert to and from int8.

    The quantizer marks the tensor that it puts behind an operator's own; the mark is no
    part of the key.
    """
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return tuple(part for part, _ in _parts(model) if part.type not in _CONVERSIONS)


def time_parts(content: bytes) -> dict[str, float]:
    """Return microseconds by key; see ``time_operators``."""
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    times = time_operators(content)
    return {
        part.key: times[position]
        for part, position in _parts(model)
        if part.type not in _CONVERSIONS and not math.isnan(times[position])
    }


def _parts(model: Any) -> Iterator[tuple[Part, int]]:
    graph = model.subgraphs[0]
    for position, one in enumerate(graph.operators):
        name = graph.tensors[one.outputs[0]].name.decode(errors="replace")
        kind = operator_name(model.operatorCodes[one.opcodeIndex].builtinCode)
        stored = [
            model.buffers[graph.tensors[index].buffer].data
            for index in one.inputs
            if index >= 0
        ]
        size = sum(len(data) for data in stored if data is not None)
        yield Part(name.removesuffix(_MARK), name, kind, size), position


def cut_operator(model: Any, index: int) -> bytes:
    """Return one operator as a model of its own; its computed inputs are inputs."""
    part = copy.copy(model)
    graph = copy.copy(model.subgraphs[0])
    operator = copy.copy(graph.operators[index])
    used = [int(one) for one in (*operator.inputs, *operator.outputs) if one >= 0]
    order = {old: new for new, old in enumerate(dict.fromkeys(used))}
    graph.tensors = [graph.tensors[old] for old in order]
    operator.inputs = [order.get(int(one), -1) for one in operator.inputs]
    operator.outputs = [order[int(one)] for one in operator.outputs]
    graph.operators = [operator]
    graph.inputs = [
        one
        for one in operator.inputs
        if one >= 0 and not _is_stored(model, graph.tensors[one])
    ]
    graph.outputs = list(operator.outputs)
    part.subgraphs, part.signatureDefs, part.metadata = [graph], [], []
    return pack(part)


def _is_stored(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _runner(content: bytes) -> Interpreter | None:
    try:
        found = Interpreter(model_content=content, num_threads=1)
        found.allocate_tensors()
        for detail in found.get_input_details():
            shape = [int(one) for one in detail["shape"]]
            found.set_tensor(detail["index"], np.ones(shape, detail["dtype"]))
        found.invoke()
    except (ValueError, RuntimeError):
        return None
    return found


def _microseconds(runner: Interpreter) -> float:
    start = time.perf_counter_ns()
    for _ in range(_CALLS):
        runner.invoke()
    return (time.perf_counter_ns() - start) / 1000 / _CALLS
