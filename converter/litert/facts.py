# SPDX-License-Identifier: Apache-2.0
"""What a LiteRT file of any kind says about itself: for ``verify`` and ``diff``.

Owns reading types, codes and signatures of files that nothing here has made. It judges
nothing.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from converter.litert.normalise import operator_name

_INTEGERS: Final = {
    schema.TensorType.INT4: "int4",
    schema.TensorType.INT8: "int8",
    schema.TensorType.UINT8: "uint8",
    schema.TensorType.INT16: "int16",
}


@dataclass(frozen=True)
class Facts:
    """What is in a file.

    Attributes:
        operators: Type to number.
        integer_weights: Stored tensors of integers that are weights: name to type.
        float_ends: Whether inputs and outputs are float32.
        has_signature: Whether a signature names inputs and outputs.
        has_old_codes: Whether operators are stored only in the deprecated field.
        is_dynamic: Whether a size after the batch is not fixed.
        has_activations: Whether activations are integers too.
    """

    operators: dict[str, int]
    integer_weights: dict[str, str]
    float_ends: bool
    has_signature: bool
    has_old_codes: bool
    is_dynamic: bool
    has_activations: bool


def read_facts(content: bytes) -> Facts:
    """Return the facts of a LiteRT file that a probe has passed."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    names = [
        operator_name(
            max(
                model.operatorCodes[one.opcodeIndex].builtinCode,
                model.operatorCodes[one.opcodeIndex].deprecatedBuiltinCode,
            )
        )
        for one in graph.operators
    ]
    computed = {int(index) for one in graph.operators for index in one.outputs}
    ends = [graph.tensors[one] for one in (*graph.inputs, *graph.outputs)]
    return Facts(
        operators=dict(sorted(Counter(names).items())),
        integer_weights=_integer_weights(model, graph),
        float_ends=all(one.type == schema.TensorType.FLOAT32 for one in ends),
        has_signature=bool(model.signatureDefs),
        has_old_codes=any(
            one.builtinCode < one.deprecatedBuiltinCode for one in model.operatorCodes
        ),
        is_dynamic=any(_is_dynamic(one) for one in ends),
        has_activations=any(graph.tensors[one].type in _INTEGERS for one in computed),
    )


def _integer_weights(model: Any, graph: Any) -> dict[str, str]:
    found = {}
    for one in graph.tensors:
        data = model.buffers[one.buffer].data
        scales = None if one.quantization is None else one.quantization.scale
        is_stored = data is not None and len(data) > 0
        if is_stored and one.type in _INTEGERS and scales is not None and len(scales):
            found[one.name.decode(errors="replace")] = _INTEGERS[one.type]
    return found


def _is_dynamic(tensor: Any) -> bool:
    signature = tensor.shapeSignature
    return signature is not None and any(size < 0 for size in signature[1:])
