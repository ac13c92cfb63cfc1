# SPDX-License-Identifier: Apache-2.0
"""Source models read by a training framework in a subprocess.

Owns the parent's end of the protocol: one JSON object a line on the worker's stdin,
one back on its stdout, tensors as ``.npy`` files in a scratch folder. The framework
never enters this process. The other end is ``tensorflow_worker``.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from converter.config import worker_environment
from converter.errors import (
    ConvertError,
    ConvertLoaderError,
    ConvertModelError,
    ConvertOperatorError,
    ConvertShapeError,
)
from converter.model import Runtime
from converter.tensors import Float32

_WORKER = "converter.loaders.tensorflow_worker"
_STOP_SECONDS = 10
_KEPT_LINES = 5
_ERRORS: dict[str, type[ConvertError]] = {
    "model": ConvertModelError,
    "operator": ConvertOperatorError,
    "shape": ConvertShapeError,
    "missing": ConvertLoaderError,
}


class FrameworkSource:
    """A Keras file or SavedModel folder.

    Args:
        path: The model.
        framework: ``keras`` or ``savedmodel``.

    Raises:
        ConvertModelError: The framework cannot load it.
        ConvertLoaderError: The framework is not installed, or its process died.
    """

    def __init__(self, path: Path, framework: str) -> None:
        self.name = path.name
        self.framework = framework
        self.runtimes: Mapping[Runtime, str] = {
            "litert": "",
            "onnxruntime": "TensorFlow models are not exported to ONNX yet",
        }
        self._scratch = tempfile.TemporaryDirectory(prefix="edge-convert-")
        self._folder = Path(self._scratch.name)
        self._log: IO[bytes] = (self._folder / "worker.log").open("wb")
        self._worker = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=worker_environment(),
            text=True,
        )
        try:
            loaded = self._ask(
                {"do": "load", "path": str(path.resolve()), "framework": framework}
            )
        except BaseException:
            self.close()
            raise
        self.toolchain: dict[str, str] = loaded["toolchain"]

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

    def export(self, runtime: Runtime) -> bytes:
        """Return the model as a float32 LiteRT flatbuffer."""
        del runtime
        target = self._folder / "float.tflite"
        self._ask({"do": "export", "path": str(target)})
        return target.read_bytes()

    def infer(self, frames: Float32) -> Float32:
        """Run float32 [n, ...] in the framework."""
        given, found = self._folder / "inputs.npy", self._folder / "outputs.npy"
        np.save(given, frames, allow_pickle=False)
        self._ask({"do": "infer", "inputs": str(given), "outputs": str(found)})
        outputs: Float32 = np.load(found, allow_pickle=False)
        return outputs

    def _ask(self, request: dict[str, str]) -> dict[str, Any]:
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
