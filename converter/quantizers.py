# SPDX-License-Identifier: Apache-2.0
"""Which quantizer and which reader of operators belong to a runtime.

Owns the table only. A runtime's libraries are imported when one of its models comes.
"""

from collections.abc import Mapping

from converter.candidate import Part, PlainQuantizer, Quantizer
from converter.model import FloatModel, Runtime


def open_quantizer(model: FloatModel) -> Quantizer:
    """Return the quantizer of a model, not calibrated yet."""
    if model.runtime == "onnxruntime":
        from converter.ort.quantizer import OnnxQuantizer

        return OnnxQuantizer(model)
    if model.runtime == "reference":
        return PlainQuantizer(model)
    from converter.litert.quantizer import LitertQuantizer

    return LitertQuantizer(model)


def read_parts(runtime: Runtime, content: bytes) -> tuple[Part, ...]:
    """Return the operators of a file, in order."""
    if runtime == "onnxruntime":
        from converter.ort import parts as onnx_parts

        return onnx_parts.read_parts(content)
    from converter.litert import parts

    return parts.read_parts(content)


def time_parts(runtime: Runtime, content: bytes) -> Mapping[str, float]:
    """Return microseconds on this host by the key of an operator, where it has any.

    LiteRT: each operator cut out and run alone. ONNX Runtime: its own profile of whole
    runs, where an operator that was fused into another has none.
    """
    if runtime == "onnxruntime":
        from converter.ort import parts as onnx_parts

        return onnx_parts.time_parts(content)
    from converter.litert import parts

    return parts.time_parts(content)
