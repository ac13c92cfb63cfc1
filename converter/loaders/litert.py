# SPDX-License-Identifier: Apache-2.0
"""Source models that are LiteRT flatbuffers already."""

from pathlib import Path
from types import TracebackType
from typing import Self

from converter.litert.probe import probe
from converter.loaders.reach import Reach
from converter.model import Runtime
from converter.runtimes.litert import Kernels, LitertEngine
from converter.tensors import Float32


class LitertSource:
    """A ``.tflite`` file, run as it is on builtin kernels.

    Raises:
        ConvertModelError: The runtime refuses the file, or crashes on it.
    """

    framework = "litert"
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.toolchain: dict[str, str] = {}
        self._content = path.read_bytes()
        probe(self._content, source=path.name)
        self._reach = Reach(self._content, "litert", path.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def why_not(self, runtime: Runtime) -> str:
        """Return why the model does not reach a runtime; empty where it does."""
        return self._reach.why_not(runtime)

    def export(self, runtime: Runtime) -> bytes:
        """Return the file, or what an emitter makes of it."""
        return self._reach.export(runtime)

    def infer(self, frames: Float32) -> Float32:
        """Run float32 [n, ...] on builtin kernels."""
        return LitertEngine(self._content, Kernels.BUILTIN).run(frames)
