# SPDX-License-Identifier: Apache-2.0
"""An interpreter of LiteRT's family, whichever package it comes from, as a backend.

Owns the mapping of its tensors and errors to ours. Tensors are allocated once and
reached with ``set_tensor`` and ``get_tensor``: a signature runner would resize and
allocate on every call. Integer inputs and outputs are scaled here, saturating, so that
callers see float32 only.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_agent.errors import BackendError
from edge_agent.flow import Float32

_FAILURES = (ValueError, RuntimeError, TypeError)


class InterpreterBackend:
    """One ``.tflite`` model with one input and one output.

    Args:
        interpreter: With allocated tensors; taken over.
        runtime: What to call the runtime in messages.

    Raises:
        BackendError: It has several inputs or outputs.
    """

    def __init__(self, interpreter: Any, runtime: str) -> None:
        inputs = interpreter.get_input_details()
        outputs = interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            msg = (
                "model: expected one input and one output, "
                f"found {len(inputs)} and {len(outputs)}"
            )
            raise BackendError(msg, next_step="build the bundle with edge-convert")
        self._set = interpreter.set_tensor
        self._invoke = interpreter.invoke
        self._get = interpreter.get_tensor
        self._runtime = runtime
        self._input = inputs[0]
        self._output = outputs[0]
        self._input_index = int(self._input["index"])
        self._output_index = int(self._output["index"])
        is_float = self._input["dtype"] == np.float32
        self._scaled = (
            None if is_float else np.empty(self.input_shape, dtype=np.float32)
        )
        operators = interpreter._get_ops_details()  # noqa: SLF001 - no public way to ask
        is_delegated = any(one["op_name"] == "DELEGATE" for one in operators)
        self._kernels = "XNNPACK" if is_delegated else "builtin"
        self._plain = {self._input["dtype"], self._output["dtype"]} == {np.float32}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, batch first."""
        return tuple(int(one) for one in self._input["shape"])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, batch first."""
        return tuple(int(one) for one in self._output["shape"])

    @property
    def kernels(self) -> str:
        """``XNNPACK`` where its delegate took the graph or a part, else ``builtin``."""
        return self._kernels

    def infer(self, data: Float32) -> Float32:
        """Run the model once; see ``Backend.infer``.

        An integer input saturates, but has no place for a value that is not finite: the
        output is then NaN, as a float model's would be.
        """
        try:
            if self._plain:
                self._set(self._input_index, data)
                self._invoke()
                result: Float32 = self._get(self._output_index)
                return result
            if self._scaled is None:
                self._set(self._input_index, data)
            elif math.isfinite(data.min()) and math.isfinite(data.max()):
                self._set(self._input_index, self._quantize(data, self._scaled))
            else:
                return np.full(self.output_shape, np.nan, dtype=np.float32)
            self._invoke()
            return self._real(self._get(self._output_index))
        except _FAILURES as error:
            msg = f"{self._runtime}: {error}"
            raise BackendError(msg) from error

    def _quantize(self, data: Float32, scaled: Float32) -> np.ndarray:
        """Return ``data`` as the input's integers, saturating, by way of ``scaled``."""
        scale, zero_point = self._input["quantization"]
        kind = self._input["dtype"]
        limits = np.iinfo(kind)
        with np.errstate(over="ignore"):  # what overflows saturates all the same
            np.divide(data, np.float32(scale), out=scaled)
        np.rint(scaled, out=scaled)
        np.add(scaled, np.float32(zero_point), out=scaled)
        np.clip(scaled, limits.min, limits.max, out=scaled)
        return scaled.astype(kind)

    def _real(self, data: np.ndarray) -> Float32:
        if data.dtype == np.float32:
            return data
        scale, zero_point = self._output["quantization"]
        real: Float32 = ((data.astype(np.float32) - zero_point) * scale).astype(
            np.float32
        )
        return real


def load_interpreter(
    make: Callable[..., Any], model: bytes, *, threads: int, runtime: str
) -> InterpreterBackend:
    """Load a ``.tflite`` file.

    Args:
        make: The package's ``Interpreter``.
        model: The file's bytes.
        threads: Threads that one inference may use.
        runtime: What to call the runtime in messages.

    Raises:
        BackendError: Not a model, or one that this runtime cannot run.
    """
    try:
        interpreter = make(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
    except _FAILURES as error:
        msg = f"{runtime}: the model cannot be loaded: {str(error)[:300]}"
        raise BackendError(msg, next_step="check that it is a .tflite file") from error
    return InterpreterBackend(interpreter, runtime)
