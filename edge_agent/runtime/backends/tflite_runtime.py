# SPDX-License-Identifier: Apache-2.0
"""``.tflite`` models through ``tflite-runtime`` 2.14, the last with wheels for armv7l.

See ``runtime.interpreter`` for how a model is run.
"""

import importlib.metadata

from edge_agent.errors import BackendError
from edge_agent.runtime.backend import explain_import
from edge_agent.runtime.interpreter import InterpreterBackend, load_interpreter


def load_model(model: bytes, *, threads: int) -> InterpreterBackend:
    """Load a ``.tflite`` file; see ``BackendModule.load_model``.

    Raises:
        BackendError: Not installed, not a model, or one that cannot be run.
    """
    try:
        from tflite_runtime.interpreter import Interpreter
    except ImportError as error:
        raise explain_import("tflite_runtime", "agent", error) from error
    return load_interpreter(
        Interpreter, model, threads=threads, runtime="tflite-runtime"
    )


def runtime_version() -> str:
    """Return the version of ``tflite-runtime``.

    Raises:
        BackendError: It is not installed.
    """
    try:
        return importlib.metadata.version("tflite-runtime")
    except importlib.metadata.PackageNotFoundError as error:
        msg = "tflite-runtime: tflite-runtime is not installed"
        raise BackendError(
            msg, next_step="install edgeloop[agent] on a 32-bit device"
        ) from error
