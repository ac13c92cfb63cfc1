# SPDX-License-Identifier: Apache-2.0
"""Shapes behind operators of ``ai.onnx.ml``, which ONNX's own inference does not know.

Owns asking the runtime for them: the model is run once on zeros.
"""

from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, helper

from converter.runtimes.onnxruntime import OnnxEngine

_DOMAIN: Final = "ai.onnx.ml"


def add_measured(model: ModelProto) -> None:
    """Write type and shape of what such operators give, and of the output.

    Nothing is done to a model without them.

    Raises:
        ConvertModelError: The runtime refuses the model.
    """
    graph = model.graph
    machine = [one for one in graph.node if one.domain == _DOMAIN]
    if not machine:
        return
    given = graph.input[0]
    asked = {name for node in graph.node for name in node.input}
    output = graph.output[0].name
    names = [
        name for node in machine for name in node.output if name in asked - {output}
    ]
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=one) for one in names)
    shape = [one.dim_value for one in given.type.tensor_type.shape.dim]
    content = copy.SerializeToString(deterministic=True)
    found = OnnxEngine(bytes(content), "plain").infer_all(np.zeros(shape, np.float32))
    values = dict(zip([output, *names], found, strict=True))
    graph.output[0].CopyFrom(_value(output, values[output]))
    graph.value_info.extend(_value(name, values[name]) for name in names)


def _value(name: str, value: Any) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
    return helper.make_tensor_value_info(name, kind, np.asarray(value).shape)
