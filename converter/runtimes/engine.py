# SPDX-License-Identifier: Apache-2.0
"""The seam to inference runtimes, and the table of their kernel sets.

Owns the Protocol and which implementation answers. A runtime is imported only when one
of its models is opened. One thread always: results must not depend on the host.
"""

import importlib
from collections.abc import Callable
from typing import Final, Protocol

from converter.model import Runtime
from converter.tensors import Float32

_MODULES: Final[dict[Runtime, str]] = {
    "litert": "converter.runtimes.litert",
    "onnxruntime": "converter.runtimes.onnxruntime",
    "reference": "converter.runtimes.reference",
}
# The first set is what a device runs; the last one computes plainly, and is the
# reference for golden vectors.
_KERNEL_SETS: Final[dict[Runtime, tuple[str, ...]]] = {
    "litert": ("xnnpack", "builtin", "reference"),
    "onnxruntime": ("optimised", "plain"),
    "reference": ("numpy",),
}


class Engine(Protocol):
    """A loaded model with one float32 input and output; not thread-safe."""

    def infer(self, frame: Float32) -> Float32:
        """Run one ``frame`` (float32, the input's shape with its batch of one)."""

    def run(self, frames: Float32) -> Float32:
        """Run ``frames`` (float32 [n, ...]) one by one and stack the outputs."""


def kernel_sets(runtime: Runtime) -> tuple[str, ...]:
    """Return the names of a runtime's kernel sets, what a device runs first."""
    return _KERNEL_SETS[runtime]


def reference_set(runtime: Runtime) -> str:
    """Return the kernel set whose outputs are golden."""
    return _KERNEL_SETS[runtime][-1]


def open_engine(runtime: Runtime, content: bytes, kernels: str = "") -> Engine:
    """Load a model.

    Args:
        runtime: Which runtime.
        content: The model file.
        kernels: One of ``kernel_sets``; the first where empty.

    Raises:
        ConvertModelError: The runtime refuses the model.
    """
    module = importlib.import_module(_MODULES[runtime])
    opener: Callable[[bytes, str], Engine] = module.open_engine
    return opener(content, kernels or kernel_sets(runtime)[0])
