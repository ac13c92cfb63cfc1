# SPDX-License-Identifier: Apache-2.0
"""The backend seam: one model file loaded by one inference runtime.

Owns the Protocol and the table of runtimes. A backend is imported only when a variant
asks for its runtime, so that a device pays for one.
"""

import importlib
from typing import Final, Protocol

from edge_agent.errors import BackendError
from edge_agent.flow import Float32

_MODULES: Final = {
    "litert": "edge_agent.runtime.backends.litert",
    "onnxruntime": "edge_agent.runtime.backends.onnxruntime",
    "reference": "edge_agent.runtime.backends.reference",
    "tflite-runtime": "edge_agent.runtime.backends.tflite_runtime",
}


RUNTIMES: Final = tuple(_MODULES)


class Backend(Protocol):
    """A loaded model. Tensors are allocated once; not thread-safe."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, batch first."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output, batch first."""

    @property
    def kernels(self) -> str:
        """What really computes, in words: ``XNNPACK``, ``CPUExecutionProvider``."""

    def infer(self, data: Float32) -> Float32:
        """Run the model once.

        Args:
            data: float32 ``input_shape``.

        Returns:
            float32 ``output_shape``, a copy.

        Raises:
            BackendError: The runtime failed.
        """


class BackendModule(Protocol):
    """What a module in ``backends`` offers."""

    def load_model(self, model: bytes, *, threads: int) -> Backend:
        """Load a model file.

        Raises:
            BackendError: The runtime refuses it.
        """

    def runtime_version(self) -> str:
        """Return the version of the installed runtime.

        Raises:
            BackendError: It is not installed.
        """


def find_backend(runtime: str) -> BackendModule:
    """Return the backend for a runtime's name.

    Raises:
        BackendError: There is none.
    """
    if runtime not in _MODULES:
        known = ", ".join(sorted(_MODULES))
        msg = f"runtime {runtime!r}: expected one of {known}"
        raise BackendError(msg, next_step="build the bundle for one of these")
    module: BackendModule = importlib.import_module(_MODULES[runtime])
    return module


def explain_import(package: str, extra: str, error: ImportError) -> BackendError:
    """Return why a runtime cannot be imported: it is absent, or does not load.

    Args:
        package: What is imported.
        extra: The extra of edgeloop that brings it.
        error: What the import raised.

    >>> error = ImportError("libstdc++.so.6: cannot open shared object file")
    >>> explain_import("onnxruntime", "agent-onnx", error).next_step
    'install that library of the system; libstdc++.so.6: apt install libstdc++6'
    """
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        msg = f"{package} is not installed"
        return BackendError(msg, next_step=f"install edgeloop[{extra}]")
    return BackendError(
        f"{package} is installed and cannot be loaded: {str(error)[:300]}",
        next_step="install that library of the system; libstdc++.so.6: apt install "
        "libstdc++6",
    )
