# SPDX-License-Identifier: Apache-2.0
"""One operator of a LiteRT file as a file of its own, to be timed.

Owns cutting it out with its stored tensors. Operators that the runtime fuses cost less
together than apart: the times say where the work is, not what the whole takes.
"""

import copy
import time
from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from converter.litert.normalise import pack

_ROUNDS: Final = 9
_CALLS: Final = 20


def time_operators(content: bytes) -> list[float]:
    """Return the median microseconds of each operator alone, on XNNPACK, one thread.

    An operator that cannot run alone has NaN.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    runners = [
        _runner(_cut(model, index))
        for index in range(len(model.subgraphs[0].operators))
    ]
    samples: list[list[float]] = [[] for _ in runners]
    for _ in range(_ROUNDS):
        for found, runner in zip(samples, runners, strict=True):
            if runner is not None:
                found.append(_microseconds(runner))
    return [float(np.median(one)) if one else float("nan") for one in samples]


def stored_bytes(model: Any, operator: Any) -> int:
    """Return the bytes of the tensors that an operator stores."""
    graph = model.subgraphs[0]
    buffers = [
        model.buffers[graph.tensors[one].buffer].data
        for one in operator.inputs
        if one >= 0
    ]
    return sum(len(one) for one in buffers if one is not None)


def _cut(model: Any, index: int) -> bytes:
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
