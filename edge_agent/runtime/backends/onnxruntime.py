# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: ``.onnx`` models.

Owns its options: threads that do not spin (a device runs on a battery, or has other
work for its cores), no memory arena (what it saves in time it costs in memory), and no
reports to the runtime's maker, which its wheels send by default.
"""

import importlib.metadata
import os
from typing import Any

from edge_agent.errors import BackendError
from edge_agent.flow import Float32
from edge_agent.runtime.backend import explain_import

_QUIET = 3
_SILENCE = "ORT_DISABLE_TELEMETRY"


class OnnxBackend:
    """One ``.onnx`` model with one float32 input and output.

    Raises:
        BackendError: It has several inputs or outputs.
    """

    def __init__(self, session: Any) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            msg = (
                "model: expected one input and one output, "
                f"found {len(inputs)} and {len(outputs)}"
            )
            raise BackendError(msg, next_step="build the bundle with edge-convert")
        self._session = session
        self._input_name = inputs[0].name
        self._output_names = [outputs[0].name]
        self._input_shape = tuple(inputs[0].shape)
        self._output_shape = tuple(outputs[0].shape)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, batch first."""
        return self._input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, batch first."""
        return self._output_shape

    @property
    def kernels(self) -> str:
        """The execution providers of the session."""
        return ", ".join(self._session.get_providers())

    def infer(self, data: Float32) -> Float32:
        """Run the model once; see ``Backend.infer``."""
        try:
            result: Float32 = self._session.run(
                self._output_names, {self._input_name: data}
            )[0]
        except Exception as error:  # the runtime's own tree has no common base
            msg = f"ONNX Runtime: {str(error)[:300]}"
            raise BackendError(msg) from error
        return result


def load_model(model: bytes, *, threads: int) -> OnnxBackend:
    """Load an ``.onnx`` file; see ``BackendModule.load_model``.

    Raises:
        BackendError: Not installed, not a model, or one that cannot be run.
    """
    # The import makes a device id and a client: afterwards is too late to say no.
    os.environ[_SILENCE] = "1"  # noqa: TID251 - set for the library, not read
    try:
        import onnxruntime
    except ImportError as error:
        raise explain_import("onnxruntime", "agent-onnx", error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime's own tree has no common base
        msg = f"ONNX Runtime: the model cannot be loaded: {str(error)[:300]}"
        raise BackendError(msg, next_step="check that it is an .onnx file") from error
    return OnnxBackend(session)


def runtime_version() -> str:
    """Return the version of ``onnxruntime``.

    Raises:
        BackendError: It is not installed.
    """
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError as error:
        msg = "ONNX Runtime: onnxruntime is not installed"
        raise BackendError(msg, next_step="install edgeloop[agent-onnx]") from error
