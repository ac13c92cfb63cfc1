# SPDX-License-Identifier: Apache-2.0
"""Source models read by a training framework in a subprocess.

Owns the parent's end of the protocol: one JSON object a line on the worker's stdin,
one back on its stdout, tensors as ``.npy`` files in a scratch folder. The framework
never enters this process. The other end is ``workers.serve``.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np

from converter.config import torch_python, worker_environment
from converter.errors import (
    ConvertError,
    ConvertLoaderError,
    ConvertModelError,
    ConvertOperatorError,
    ConvertShapeError,
    ConvertTrustError,
)
from converter.loaders.reach import Door, Reach
from converter.model import Runtime
from converter.tensors import Float32

_SERVE: Final = Path(__file__).with_name("workers") / "serve.py"
_STOP_SECONDS = 10
_KEPT_LINES = 5
_ERRORS: dict[str, type[ConvertError]] = {
    "model": ConvertModelError,
    "operator": ConvertOperatorError,
    "shape": ConvertShapeError,
    "missing": ConvertLoaderError,
    "untrusted": ConvertTrustError,
}


@dataclass(frozen=True)
class _Framework:
    worker: str
    door: Door


_FRAMEWORKS: Final = {
    "keras": _Framework("tensorflow_model", "litert"),
    "savedmodel": _Framework("tensorflow_model", "litert"),
    "sklearn": _Framework("sklearn_model", "onnx"),
    "torch": _Framework("torch_model", "onnx"),
}


class FrameworkSource:
    """A model that a framework must load.

    Args:
        path: The model.
        framework: ``keras``, ``savedmodel``, ``sklearn`` or ``torch``.
        trust_pickle: Whether the file may run code.

    Raises:
        ConvertModelError: The framework cannot load it.
        ConvertLoaderError: The framework is not installed, or its process died.
        ConvertTrustError: It holds types of unknown origin.
    """

    def __init__(
        self, path: Path, framework: str, *, trust_pickle: bool = False
    ) -> None:
        self.name = path.name
        self.framework = framework
        self._kind = _FRAMEWORKS[framework]
        self._scratch = tempfile.TemporaryDirectory(prefix="edge-convert-")
        self._folder = Path(self._scratch.name)
        self._log: IO[bytes] = (self._folder / "worker.log").open("wb")
        self._worker = self._start()
        try:
            facts = self._ask(
                {
                    "do": "load",
                    "path": str(path.resolve()),
                    "framework": framework,
                    "trust": trust_pickle,
                }
            )
        except BaseException:
            self.close()
            raise
        self.toolchain: dict[str, str] = facts["toolchain"]
        self.labels: tuple[str, ...] = tuple(facts.get("labels", ()))
        self.features: tuple[str, ...] = tuple(facts.get("features", ()))

    def _start(self) -> "subprocess.Popen[str]":
        python = torch_python() if self.framework == "torch" else ""
        try:
            return subprocess.Popen(  # noqa: S603 - our own file
                [python or sys.executable, str(_SERVE), self._kind.worker],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=worker_environment(),
                text=True,
            )
        except OSError as error:
            self._log.close()
            self._scratch.cleanup()
            msg = f"{python}: expected a Python interpreter: {error.strerror}"
            raise ConvertLoaderError(
                msg, next_step="check EDGE_CONVERT_TORCH_PYTHON"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the worker and remove the scratch folder."""
        self.close()

    def close(self) -> None:
        """Stop the worker and remove the scratch folder."""
        if self._worker.stdin is not None:
            self._worker.stdin.close()  # end of input asks it to leave
        try:
            self._worker.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()
        if self._worker.stdout is not None:
            self._worker.stdout.close()
        self._log.close()
        self._scratch.cleanup()

    @cached_property
    def _reach(self) -> Reach:
        target = self._folder / "exported"
        self._ask({"do": "export", "path": str(target)})
        return Reach(target.read_bytes(), self._kind.door, self.name)

    def why_not(self, runtime: Runtime) -> str:
        """Return why the model does not reach a runtime; empty where it does."""
        return self._reach.why_not(runtime)

    def export(self, runtime: Runtime) -> bytes:
        """Return the model as a float32 file for a runtime."""
        return self._reach.export(runtime)

    def infer(self, frames: Float32) -> Float32:
        """Run float32 [n, ...] in the framework."""
        given, found = self._folder / "inputs.npy", self._folder / "outputs.npy"
        np.save(given, frames, allow_pickle=False)
        self._ask({"do": "infer", "inputs": str(given), "outputs": str(found)})
        outputs: Float32 = np.load(found, allow_pickle=False)
        return outputs

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        line = ""
        if self._worker.stdin is not None and self._worker.stdout is not None:
            try:
                self._worker.stdin.write(json.dumps(request) + "\n")
                self._worker.stdin.flush()
                line = self._worker.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            msg = f"{self.name}: the loader ended in {request['do']!r}: "
            raise ConvertLoaderError(
                msg + self._last_words(), next_step="see whether memory ran out"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = _ERRORS.get(answer["kind"], ConvertLoaderError)
            msg = f"{self.name}: {answer['error']}"
            raise kind(msg, next_step=answer.get("next_step", ""))
        return answer

    def _last_words(self) -> str:
        text = (self._folder / "worker.log").read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(lines[-_KEPT_LINES:]) or "no message"
