# SPDX-License-Identifier: Apache-2.0
"""The form of an ONNX file: its IR version and operator set, lowered for old runtimes.

Owns the floor that every file of ours keeps to where it can. Which runtime reads which
form is ``compat``'s table.
"""

from typing import Final

import onnx
from onnx import ModelProto, version_converter

TARGET_IR: Final = 8
TARGET_OPSET: Final = 17
_NEWER_ATTRIBUTES: Final = frozenset({"noop_with_empty_axes"})
_OPSETS_OF_IR: Final = {8: 18, 9: 20, 10: 22, 11: 23}


def lower(model: ModelProto) -> ModelProto:
    """Return a model of operator set 17 and IR 8 where its operators allow that.

    What the converter of operator sets cannot lower keeps its set, and gets the lowest
    IR that has it.
    """
    opset = find_opset(model)
    if opset != TARGET_OPSET:
        try:
            model = version_converter.convert_version(model, TARGET_OPSET)
            _drop_newer_attributes(model)
            onnx.checker.check_model(model)
        except (RuntimeError, ValueError, onnx.checker.ValidationError):
            pass  # an operator without a way there: the newer form stays
    opset = find_opset(model)
    fitting = [ir for ir, newest in _OPSETS_OF_IR.items() if opset <= newest]
    model.ir_version = max(TARGET_IR, fitting[0] if fitting else model.ir_version)
    return model


def _drop_newer_attributes(model: ModelProto) -> None:
    """Remove an attribute of operator set 18 that its converter forgets."""
    for node in model.graph.node:
        kept = [one for one in node.attribute if one.name not in _NEWER_ATTRIBUTES]
        if node.op_type.startswith("Reduce") and len(kept) < len(node.attribute):
            del node.attribute[:]
            node.attribute.extend(kept)


def find_opset(model: ModelProto) -> int:
    """Return the version of ONNX's own operator set."""
    return max(
        (one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}),
        default=1,
    )


def read_form(content: bytes) -> tuple[int, int]:
    """Return IR version and operator set of an ONNX file."""
    model = onnx.load_from_string(content)
    return int(model.ir_version), find_opset(model)
