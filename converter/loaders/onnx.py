# SPDX-License-Identifier: Apache-2.0
"""Source models that are ONNX files already."""

from pathlib import Path
from types import TracebackType
from typing import Self

from converter.loaders.reach import Reach
from converter.model import Runtime
from converter.ort.normalise import normalise
from converter.ort.probe import probe
from converter.runtimes import open_engine
from converter.tensors import Float32
from edge_contract.steps import apply_post


class OnnxSource:
    """An ``.onnx`` file, run on plain kernels.

    Raises:
        ConvertModelError: The runtime refuses the file, or crashes on it.
    """

    framework = "onnx"
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.toolchain: dict[str, str] = {}
        self._content = path.read_bytes()
        probe(self._content, source=path.name)
        self._reach = Reach(self._content, "onnx", path.name)

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
        """Run float32 [n, ...] without graph optimisations, scores only."""
        model = normalise(self._content, source=self.name)
        found = open_engine(model.runtime, model.content, "plain").run(frames)
        return apply_post([{"step": one} for one in model.post], found)
