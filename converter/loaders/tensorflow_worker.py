# SPDX-License-Identifier: Apache-2.0
"""The subprocess in which TensorFlow and Keras load, run and export a model.

Owns the worker's end of the protocol of ``framework``. Run as a module with the
environment of ``converter.config``; standard output carries answers only, whatever a
library prints goes to standard error. Never imported by the pipeline.
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_REASON = 300
_MISSING_OPERATOR = re.compile(r"\btf\.(\w+)(?= op is neither a custom op)")
_MISSING_SUMMARY = re.compile(r"(?:Flex|Custom) ops?: ([\w, ]+)")


class WorkerError(Exception):
    """A failure with the kind that the parent maps to its error tree."""

    def __init__(self, kind: str, message: str, next_step: str) -> None:
        super().__init__(message)
        self.answer = {"kind": kind, "error": message, "next_step": next_step}


class Model:
    """The loaded model and the ways to run and export it."""

    def __init__(self, path: Path, framework: str) -> None:
        try:
            import keras
            import tensorflow as tf
        except ImportError as error:
            raise WorkerError(
                "missing",
                f"reading a {framework} model needs TensorFlow and Keras: {error}",
                "pip install 'edgeloop[tf]'",
            ) from error
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._tf = tf
        self._path = path
        self._is_keras = framework == "keras"
        self.toolchain = {"tensorflow": str(tf.__version__)}
        if self._is_keras:
            self.toolchain["keras"] = str(keras.__version__)
        try:
            if self._is_keras:
                self._model = keras.saving.load_model(
                    path, compile=False, custom_objects=_old_layers(keras)
                )
            else:
                self._model = tf.saved_model.load(str(path))
        except Exception as error:  # any framework failure is the file's
            raise WorkerError(
                "model",
                f"{framework} cannot load this file: {_brief(error)}",
                "save it again with the installed version, without custom objects",
            ) from error

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, ...]; return float32 [n, ...]."""
        try:
            if self._is_keras:
                found = self._model(frames, training=False)
            else:
                function = self._model.signatures["serving_default"]
                name = next(iter(function.structured_input_signature[1]))
                found = function(**{name: self._tf.constant(frames)})
            while isinstance(found, (dict, list, tuple)):
                found = found[0] if not isinstance(found, dict) else [*found.values()]
            return np.asarray(found, dtype=np.float32)
        except Exception as error:  # any framework failure is the model's
            raise WorkerError(
                "shape",
                f"the source model refuses inputs {list(frames.shape)}: "
                + _brief(error),
                "check the model's input shape",
            ) from error

    def export(self) -> bytes:
        """Return a float32 LiteRT flatbuffer with built-in operators only."""
        with tempfile.TemporaryDirectory() as folder:
            saved = self._path
            if self._is_keras:
                saved = Path(folder) / "saved"
                self._model.export(str(saved), format="tf_saved_model", verbose=False)
            converter = self._tf.lite.TFLiteConverter.from_saved_model(str(saved))
            converter.exclude_conversion_metadata = True
            try:
                return bytes(converter.convert())
            except Exception as error:  # the converter raises many kinds
                raise _export_error(str(error)) from error


def _old_layers(keras: Any) -> dict[str, Any]:
    """Return layers that read what Keras 2 wrote and Keras 3 refuses."""

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        """Takes the one group that Keras 2 wrote for every depthwise layer."""

        def __init__(self, *positional: Any, groups: int = 1, **named: Any) -> None:
            if groups != 1:
                msg = f"DepthwiseConv2D: expected one group, found {groups}"
                raise ValueError(msg)
            super().__init__(*positional, **named)

    return {"DepthwiseConv2D": DepthwiseConv2D}


def _export_error(text: str) -> WorkerError:
    names = {f"tf.{name}" for name in _MISSING_OPERATOR.findall(text)}
    for listed in _MISSING_SUMMARY.findall(text):
        names |= {one.strip() for one in listed.split(",")}
    if names:
        return WorkerError(
            "operator",
            f"expected built-in operators only, found {', '.join(sorted(names))}",
            "replace these layers by ones that LiteRT has built in",
        )
    return WorkerError("model", f"export failed: {text[:_MAX_REASON]}", "")


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_MAX_REASON]


class Worker:
    """Answers requests until standard input ends."""

    def __init__(self) -> None:
        self._model: Model | None = None
        self._do: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
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

    def _load(self, request: dict[str, str]) -> dict[str, Any]:
        self._model = Model(Path(request["path"]), request["framework"])
        return {"toolchain": self._model.toolchain}

    def _infer(self, request: dict[str, str]) -> dict[str, Any]:
        outputs = self._loaded.infer(np.load(request["inputs"], allow_pickle=False))
        np.save(request["outputs"], outputs, allow_pickle=False)
        return {}

    def _export(self, request: dict[str, str]) -> dict[str, Any]:
        Path(request["path"]).write_bytes(self._loaded.export())
        return {}

    @property
    def _loaded(self) -> Model:
        if self._model is None:
            raise WorkerError("missing", "no model was loaded", "load one first")
        return self._model


def _claim_stdout() -> IO[str]:
    """Keep standard output for answers; send what libraries print to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def main() -> None:
    """Serve requests."""
    answers, worker = _claim_stdout(), Worker()
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
