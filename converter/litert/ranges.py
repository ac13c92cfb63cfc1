# SPDX-License-Identifier: Apache-2.0
"""The activations of a LiteRT model, frame by frame, for ``calibrate``."""

from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.calibrate import Activations, RangeTracker, track
from converter.model import FloatModel
from converter.runtimes.litert import Kernels, LitertEngine
from converter.tensors import Float32, Frames


def track_activations(
    model: FloatModel, frames: Frames, kernels: Kernels = Kernels.BUILTIN
) -> dict[str, RangeTracker]:
    """Return what ``frames`` leave of each float32 activation.

    XNNPACK keeps no intermediate tensors: the builtin kernels compute by default.

    Raises:
        ConvertQuantizeError: An activation is not finite on some frame.
    """
    names = activation_names(model.content)
    engine = LitertEngine(model.content, kernels, keep_tensors=True)

    def activations(block: Float32) -> Iterator[Activations]:
        for position in range(len(block)):
            engine.infer(block[position : position + 1])
            yield {name: engine.tensor(index) for index, name in names.items()}

    return track(frames, activations)


def activation_names(content: bytes) -> dict[int, str]:
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
