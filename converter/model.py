# SPDX-License-Identifier: Apache-2.0
"""A float model file in its normal form, whatever runtime it is for.

Owns the value only. How a file gets into that form is ``litert.normalise`` and
``ort.normalise``.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from converter.tensors import TensorSpec

# In the order in which a device without a profile is likely to have them.
Runtime = Literal["litert", "reference", "onnxruntime"]
RUNTIMES: Final[tuple[Runtime, ...]] = get_args(Runtime)


@dataclass(frozen=True, eq=False)
class FloatModel:
    """A normalised float32 model with one input and one output.

    Attributes:
        content: The file: a LiteRT flatbuffer, an ONNX protobuf, or a model of
            ``edge_contract.reference_model``.
        input: Its input; the batch is 1.
        output: Its output, before ``post``; the batch is 1.
        operators: Types of its operators, in order.
        runtime: Which runtime runs it.
        post: Steps of ``edge_contract.steps`` that the normal form took off its end:
            ``softmax`` where the source ended in one. Golden vectors are compared
            before them, so that no int8 softmax blurs a step.
    """

    content: bytes
    input: TensorSpec
    output: TensorSpec
    operators: tuple[str, ...]
    runtime: Runtime = "litert"
    post: tuple[str, ...] = ()
