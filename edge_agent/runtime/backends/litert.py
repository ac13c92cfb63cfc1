# SPDX-License-Identifier: Apache-2.0
"""LiteRT: ``.tflite`` models through ``ai_edge_litert``.

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
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise explain_import("ai_edge_litert", "agent", error) from error
    return load_interpreter(Interpreter, model, threads=threads, runtime="LiteRT")


def runtime_version() -> str:
    """Return the version of ``ai-edge-litert``.

    Raises:
        BackendError: It is not installed.
    """
    try:
        return importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError as error:
        msg = "LiteRT: ai-edge-litert is not installed"
        raise BackendError(msg, next_step="install edgeloop[agent]") from error
