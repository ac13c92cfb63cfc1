# SPDX-License-Identifier: Apache-2.0
"""From LiteRT to ONNX, for the operators of small networks.

Owns the order of work; layout is ``onnx_emission``, operators are ``onnx_operators``.
tf2onnx would do this from TensorFlow's graph, but not the same bytes twice, and with
norms that are not folded; the LiteRT file is there already.
"""

from converter.emit.onnx_emission import OnnxEmission
from converter.emit.onnx_operators import OPERATORS
from converter.errors import ConvertOperatorError
from converter.model import FloatModel


def emit_onnx(model: FloatModel) -> bytes:
    """Return an ONNX file.

    Args:
        model: In the normal form of ``litert.normalise``; a softmax that it took off
            the end comes back.

    Raises:
        ConvertOperatorError: An operator is not covered; the first one is named.
    """
    run = OnnxEmission(model.content)
    for operator in run.operators:
        kind = run.kind(operator)
        if kind not in OPERATORS:
            msg = f"ONNX: {kind} is not converted from LiteRT"
            raise ConvertOperatorError(msg, next_step="keep to LiteRT")
    run.begin(model)
    for operator in run.operators:
        OPERATORS[run.kind(operator)](run, operator)
    return run.pack(model)
