# SPDX-License-Identifier: Apache-2.0
"""The subprocess in which a framework loads, runs and exports one model.

Owns the worker's end of the protocol of ``loaders.framework``. Run by its path with the
name of the module beside it that knows the framework, under an interpreter that need
not have anything else of this package. Standard output carries answers only, whatever a
library prints goes to standard error.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

Refuse = Callable[[str, str, str], Exception]
MAX_REASON = 300


class WorkerModel(Protocol):
    """A model loaded by its framework.

    Attributes:
        facts: What the parent is told: ``toolchain``, and ``labels`` where known.
    """

    facts: dict[str, Any]

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, ...]; return float32 [n, ...]."""

    def export(self) -> bytes:
        """Return the model as the one file that the framework can write."""


class WorkerError(Exception):
    """A failure with the kind that the parent maps to its error tree."""

    def __init__(self, kind: str, message: str, next_step: str) -> None:
        super().__init__(message)
        self.answer = {"kind": kind, "error": message, "next_step": next_step}


class Worker:
    """Answers requests until standard input ends.

    Args:
        load: Opens the model of a request; raises what its second argument makes.
    """

    def __init__(self, load: Callable[[dict[str, Any], Refuse], WorkerModel]) -> None:
        self._load_model = load
        self._model: WorkerModel | None = None
        self._do: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "load": self._load,
            "infer": self._infer,
            "export": self._export,
        }

    def answer(self, line: str) -> dict[str, Any]:
        """Carry out one request."""
        request = json.loads(line)
        try:
            return self._do[request["do"]](request)
        except WorkerError as error:
            return error.answer

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        self._model = self._load_model(request, WorkerError)
        return self._model.facts

    def _infer(self, request: dict[str, Any]) -> dict[str, Any]:
        frames = np.load(request["inputs"], allow_pickle=False)
        try:
            outputs = np.asarray(self._loaded.infer(frames), dtype=np.float32)
        except Exception as error:  # any framework failure is the model's
            message = f"the source model refuses inputs {list(frames.shape)}: "
            next_step = "check the model's input shape"
            raise WorkerError("shape", message + brief(error), next_step) from error
        np.save(request["outputs"], outputs, allow_pickle=False)
        return {}

    def _export(self, request: dict[str, Any]) -> dict[str, Any]:
        Path(request["path"]).write_bytes(self._loaded.export())
        return {}

    @property
    def _loaded(self) -> WorkerModel:
        if self._model is None:
            raise WorkerError("missing", "no model was loaded", "load one first")
        return self._model


def brief(error: Exception) -> str:
    """Return an error's kind and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:MAX_REASON]


def _claim_stdout() -> IO[str]:
    """Keep standard output for answers; send what libraries print to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _find_load(name: str) -> Callable[[dict[str, Any], Refuse], WorkerModel]:
    """Return ``load`` of the module beside this file; no package is needed."""
    sys.path.insert(0, str(Path(__file__).parent))
    load: Callable[[dict[str, Any], Refuse], WorkerModel]
    load = importlib.import_module(name).load
    return load


def main(name: str) -> None:
    """Serve requests with the module ``name``."""
    answers, worker = _claim_stdout(), Worker(_find_load(name))
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
