# SPDX-License-Identifier: Apache-2.0
"""The tools that the converter is compared with, as their own documents use them."""

import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_quantizer import quantizer, recipe
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from converter.candidate import Recipe
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes import open_engine

Float32 = NDArray[np.float32]
_FLOAT_IO: list[dict[str, Any]] = [
    {
        "regex": ".*",
        "operation": operation,
        "algorithm_key": "no_quantize",
        "op_config": {},
    }
    for operation in ("INPUT", "OUTPUT")
]
_TENSORFLOW = """
import sys
import tempfile
from pathlib import Path
import numpy as np
import tensorflow as tf
from converter.loaders.workers.tensorflow_model import Model
frames = np.load(sys.argv[2])
def refuse(*words):
    return RuntimeError(" ".join(words))
model = Model(Path(sys.argv[1]), "keras", refuse)
with tempfile.TemporaryDirectory() as folder:
    model._model.export(folder, format="tf_saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in frames)
    open(sys.argv[3], "wb").write(converter.convert())
"""


def normal_form(content: bytes) -> bytes:
    """Return the float file that every LiteRT quantizer here starts from."""
    return normalise(content, source="model").content


def plain_static(content: bytes, frames: Float32) -> bytes:
    """Return ai-edge-quantizer's recommended static recipe, its own calibration.

    The file is normalised first (old operator codes, no signature): the quantizer
    refuses or misreads it as it was published. A softmax that this takes off the end is
    put back by ``run_bytes``.
    """
    return _quantize(content, recipe.static_wi8_ai8(), frames)


def plain_dynamic(content: bytes) -> bytes:
    """Return ai-edge-quantizer's recommended recipe for CPUs."""
    return _quantize(content, recipe.dynamic_wi8_afp32(), None)


def _quantize(content: bytes, entries: Any, frames: Float32 | None) -> bytes:
    model = normalise(content, source="model")
    work = quantizer.Quantizer(model.content)
    work.load_quantization_recipe([*entries, *_FLOAT_IO])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranges = None
        if frames is not None:
            data = [{model.input.name: one[np.newaxis]} for one in frames]
            ranges = work.calibrate({"serving_default": data})
        found = work.quantize(ranges, enable_progress_report=False)
    return bytes(found.quantized_model)


def our_dynamic_per_tensor(content: bytes) -> bytes:
    """Return our own dynamic candidate with a scale a tensor."""
    work = LitertQuantizer(normalise(content, source="model"))
    return work.make(Recipe("litert", "dynamic", per_channel=False)).content


def tensorflow_default(model: Path, frames: Float32) -> bytes | None:
    """Return TFLiteConverter's default int8 of a Keras file; None of another file.

    Through a SavedModel, with our loader: Keras 3 alone refuses a depthwise layer that
    Keras 2 wrote.

    Raises:
        RuntimeError: It fails.
    """
    if model.suffix != ".h5":
        return None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "x.npy", frames)
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [
                sys.executable,
                "-c",
                _TENSORFLOW,
                str(model),
                str(folder / "x.npy"),
                str(folder / "out.tflite"),
            ],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"TFLiteConverter, {model.name}: {done.stderr.decode()[-500:]}"
            )
        return (folder / "out.tflite").read_bytes()


def onnxruntime_default(content: bytes, frames: Float32) -> bytes:
    """Return onnxruntime.quantization's defaults of an ONNX file."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self._frames: Iterator[Float32] = iter(frames)
            self._name = name

        def get_next(self) -> dict[str, Float32] | None:
            frame = next(self._frames, None)
            return None if frame is None else {self._name: frame[np.newaxis]}

    logging.getLogger().setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "in.onnx").write_bytes(content)
        name = onnx.load_from_string(content).graph.input[0].name
        quantize_static(folder / "in.onnx", folder / "out.onnx", Reader(name))
        return (folder / "out.onnx").read_bytes()


def run_bytes(content: bytes, frames: Float32, *, softmax: bool = True) -> Float32:
    """Return outputs of a ``.tflite``, after a softmax where classes are few."""
    raw = open_engine("litert", content).run(frames)
    flat = raw.reshape(len(raw), -1)
    if not softmax:
        return flat
    exponent = np.exp(flat - flat.max(axis=1, keepdims=True))
    shares: Float32 = exponent / exponent.sum(axis=1, keepdims=True)
    return shares
