# SPDX-License-Identifier: Apache-2.0
"""Source models that are LiteRT flatbuffers already."""

from pathlib import Path
from types import TracebackType
from typing import Self

from converter.litert.probe import probe
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
        return "" if runtime == "litert" else "a .tflite file is for LiteRT"

    def export(self, runtime: Runtime) -> bytes:
        """Return the file's bytes."""
        del runtime
        return self._content

    def infer(self, frames: Float32) -> Float32:
        """Run float32 [n, ...] on builtin kernels."""
        return LitertEngine(self._content, Kernels.BUILTIN).run(frames)
