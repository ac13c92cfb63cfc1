# SPDX-License-Identifier: Apache-2.0
"""Which runtimes one exported file reaches, and the files for them.

Owns the table of ways: a framework writes one kind of file, and emitters of our own
write the others where they cover every operator. Where they do not, the reason names
the operator. What an emitter writes is held to float parity like any export.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal

from converter.errors import ConvertOperatorError
from converter.model import FloatModel, Runtime

Door = Literal["litert", "onnx"]
# What reading an operator raises whose attributes are missing or do not fit together.
_MALFORMED: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
_NATIVE: Final[dict[Door, Runtime]] = {"litert": "litert", "onnx": "onnxruntime"}


class Reach:
    """One exported file and what can be made of it.

    Args:
        content: The file, as the framework wrote it.
        door: Its kind.
        name: What to call it in messages.
    """

    def __init__(self, content: bytes, door: Door, name: str) -> None:
        self._content = content
        self._native = _NATIVE[door]
        self._name = name
        self._made: dict[Runtime, bytes] = {}

    def why_not(self, runtime: Runtime) -> str:
        """Return why the file does not reach a runtime; empty where it does.

        Raises:
            ConvertError: The file is none that we convert.
        """
        try:
            self.export(runtime)
        except ConvertOperatorError as error:
            return error.message
        return ""

    def export(self, runtime: Runtime) -> bytes:
        """Return the file for a runtime, not in its normal form yet.

        Raises:
            ConvertError: It cannot be one.
        """
        if runtime == self._native:
            return self._content
        if runtime not in self._made:
            emit, model = _emitter(self._native, runtime), self._model
            try:
                self._made[runtime] = emit(model)
            except _MALFORMED as error:
                msg = f"{self._name}: {runtime}: the model contradicts itself: {error}"
                raise ConvertOperatorError(
                    msg, next_step="export the model again"
                ) from error
        return self._made[runtime]

    @cached_property
    def _model(self) -> FloatModel:
        if self._native == "litert":
            from converter.litert.normalise import normalise

            return normalise(self._content, source=self._name)
        from converter.ort.normalise import normalise as normalise_onnx

        return normalise_onnx(self._content, source=self._name)


def _emitter(native: Runtime, runtime: Runtime) -> Callable[[FloatModel], bytes]:
    """Return the way from a normal form to another runtime's file."""
    if (native, runtime) == ("onnxruntime", "reference"):
        from converter.emit.reference import emit_reference

        return emit_reference
    if (native, runtime) == ("onnxruntime", "litert"):
        from converter.emit.litert import emit_litert

        return emit_litert
    if (native, runtime) == ("litert", "onnxruntime"):
        from converter.emit.onnx import emit_onnx

        return emit_onnx
    msg = f"the {runtime} runtime is for linear models and trees"
    raise ConvertOperatorError(msg)
