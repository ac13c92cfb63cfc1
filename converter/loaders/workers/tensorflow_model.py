# SPDX-License-Identifier: Apache-2.0
"""Keras files and SavedModel folders, in the worker; exported to LiteRT.

Owns what TensorFlow and Keras are asked for. See ``serve``.
"""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from converter.loaders.workers.serve import Refuse

_MAX_REASON = 300
_MISSING_OPERATOR = re.compile(r"\btf\.(\w+)(?= op is neither a custom op)")
_MISSING_SUMMARY = re.compile(r"(?:Flex|Custom) ops?: ([\w, ]+)")


def load(request: dict[str, Any], refuse: "Refuse") -> "Model":
    """Load the model of a request: ``path`` and ``framework``."""
    return Model(Path(request["path"]), request["framework"], refuse)


class Model:
    """The loaded model and the ways to run and export it."""

    def __init__(self, path: Path, framework: str, refuse: "Refuse") -> None:
        try:
            import keras
            import tensorflow as tf
        except ImportError as error:
            raise refuse(
                "missing",
                f"reading a {framework} model needs TensorFlow and Keras: {error}",
                "pip install 'edgeloop[tf]'",
            ) from error
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._tf = tf
        self._path = path
        self._refuse = refuse
        self._is_keras = framework == "keras"
        toolchain = {"tensorflow": str(tf.__version__)}
        if self._is_keras:
            toolchain["keras"] = str(keras.__version__)
        self.facts: dict[str, Any] = {"toolchain": toolchain}
        try:
            if self._is_keras:
                self._model = keras.saving.load_model(
                    path, compile=False, custom_objects=_old_layers(keras)
                )
            else:
                self._model = _open_signature(tf, path)
        except Exception as error:  # any framework failure is the file's
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0]}"[:_MAX_REASON]
            raise refuse(
                "model",
                f"{framework} cannot load this file: {reason}",
                "save it again with the installed version, without custom objects",
            ) from error

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, ...]; return float32 [n, ...]."""
        if self._is_keras:
            found = self._model(frames, training=False)
        else:
            found = self._model.infer(frames)
        while isinstance(found, (dict, list, tuple)):
            found = found[0] if not isinstance(found, dict) else [*found.values()]
        return np.asarray(found, dtype=np.float32)

    def export(self) -> bytes:
        """Return a float32 LiteRT flatbuffer with built-in operators only."""
        with tempfile.TemporaryDirectory() as folder:
            saved = self._path
            if self._is_keras:
                saved = Path(folder) / "saved"
                self._model.export(str(saved), format="tf_saved_model", verbose=False)
            lite = self._tf.lite if self._is_keras else self._model.lite
            converter = lite.TFLiteConverter.from_saved_model(str(saved))
            converter.exclude_conversion_metadata = True
            try:
                return bytes(converter.convert())
            except Exception as error:  # the converter raises many kinds
                raise self._export_error(str(error)) from error

    def _export_error(self, text: str) -> Exception:
        names = {f"tf.{name}" for name in _MISSING_OPERATOR.findall(text)}
        for listed in _MISSING_SUMMARY.findall(text):
            names |= {one.strip() for one in listed.split(",")}
        if names:
            return self._refuse(
                "operator",
                f"expected built-in operators only, found {', '.join(sorted(names))}",
                "replace these layers by ones that LiteRT has built in",
            )
        return self._refuse("model", f"export failed: {text[:_MAX_REASON]}", "")


class _Signature:
    """``serving_default`` of a SavedModel that this TensorFlow reads whole."""

    def __init__(self, tf: Any, path: Path) -> None:
        self._tf, self.lite = tf, tf.lite
        self._loaded = tf.saved_model.load(str(path))  # its functions die with it
        self._function = self._loaded.signatures["serving_default"]
        self._name = next(iter(self._function.structured_input_signature[1]))

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, ...]."""
        return self._function(**{self._name: self._tf.constant(frames)})


class _OldSignature:
    """The same in a session: Keras 2 left objects that only Keras 2 revives."""

    def __init__(self, tf: Any, path: Path) -> None:
        self.lite = tf.compat.v1.lite
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(path))
        signature = loaded.signature_def["serving_default"]
        self._input = next(iter(signature.inputs.values())).name
        self._output = next(iter(signature.outputs.values())).name

    def infer(self, frames: Any) -> Any:
        """Run float32 [n, ...]."""
        return self._session.run(self._output, {self._input: frames})


def _open_signature(tf: Any, path: Path) -> Any:
    try:
        return _Signature(tf, path)
    except AttributeError:  # an optimizer of Keras 2 has no class here
        return _OldSignature(tf, path)


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
