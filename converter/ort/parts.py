# SPDX-License-Identifier: Apache-2.0
"""The operators of an ONNX file, and how long each takes by the runtime's own profile.

Owns finding a node of the source in a quantized and optimised graph: both keep the name
that the normal form gave it.
"""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import ModelProto

from converter.candidate import Part
from converter.runtimes.onnxruntime import OnnxEngine

_CONVERSIONS: Final = frozenset({"DequantizeLinear", "QuantizeLinear"})
_KERNEL_TIME: Final = "_kernel_time"
_WARM_UP: Final = 5
_RUNS: Final = 100


def read_parts(content: bytes) -> tuple[Part, ...]:
    """Return the nodes of a file, without those that only convert to and from int8."""
    model = onnx.load_from_string(content)
    stored = _stored_bytes(model)
    return tuple(
        Part(
            node.name,
            str(node.output[0]),
            node.op_type,
            sum(stored.get(one, 0) for one in node.input),
        )
        for node in model.graph.node
        if node.op_type not in _CONVERSIONS
    )


def time_parts(content: bytes) -> dict[str, float]:
    """Return median microseconds of each node that the optimised graph still runs.

    Times of what the runtime puts around a node count as the node's own.
    """
    keys = [one.key for one in read_parts(content)]
    shape = _input_shape(onnx.load_from_string(content))
    frame = np.ones(shape, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        engine = OnnxEngine(content, profile=Path(folder) / "profile")
        for _ in range(_WARM_UP + _RUNS):
            engine.infer(frame)
        events = json.loads(engine.end_profile().read_bytes())
    samples: dict[str, list[float]] = defaultdict(list)
    for one in events:
        name = str(one.get("name", ""))
        if one.get("cat") == "Node" and name.endswith(_KERNEL_TIME):
            samples[name.removesuffix(_KERNEL_TIME)].append(float(one["dur"]))
    found: dict[str, float] = {}
    for name, times in samples.items():
        key = _key_in(name, keys)
        if key:
            typical = float(np.median(times[_WARM_UP:]))
            found[key] = found.get(key, 0.0) + typical
    return found


def _key_in(name: str, keys: list[str]) -> str:
    """Return which node an event is about; a fused node names the one it grew from.

    >>> _key_in("fused Conv_1", ["Conv_1", "Conv_12"]), _key_in("Conv_12", ["Conv_1"])
    ('Conv_1', '')
    """
    words = name.replace("/", " ").split()
    return next((one for one in keys if one in words), "")


def _input_shape(model: ModelProto) -> tuple[int, ...]:
    kind = model.graph.input[0].type.tensor_type
    return tuple(int(one.dim_value) for one in kind.shape.dim)


def _stored_bytes(model: ModelProto) -> dict[str, int]:
    """Return the bytes behind each stored tensor, dequantized ones included."""
    found = {one.name: len(one.raw_data) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _CONVERSIONS and node.input[0] in found:
            found[str(node.output[0])] = found[node.input[0]]
    return found
