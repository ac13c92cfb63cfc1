# SPDX-License-Identifier: Apache-2.0
"""Real models and data for the converter's measurements, where they are at hand.

Owns finding them and cutting them into the files that ``edge-convert`` reads. Inputs of
the person detector are crops of the two published pictures, since no data set of it is
here: they say something about outputs, nothing about accuracy.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from converter.litert.normalise import normalise
from converter.loaders import open_source
from converter.runtimes import open_engine
from converter.verify import open_litert
from edge_contract.bundle import Bundle
from edge_contract.golden import signal_to_noise_db
from edge_contract.steps import apply_post

Float32 = NDArray[np.float32]
BENCHDATA: Final = Path(__file__).resolve().parents[3] / "shared" / "benchdata"
TINY: Final = BENCHDATA / "mlperf_tiny"
ABSENT: Final = "the models and data of ../shared/benchdata are not here"
_SIDE: Final = 96


@dataclass(frozen=True)
class Built:
    """A build and what it took.

    Attributes:
        bundle: The file.
        report: The document of ``--json``.
        seconds: Wall time of the whole command.
        peak_bytes: Peak resident memory of the largest process of the build.
    """

    bundle: Path
    report: dict[str, Any]
    seconds: float
    peak_bytes: int


def are_here() -> bool:
    """Whether the models and data are at hand."""
    return BENCHDATA.is_dir()


def build(model: Path, folder: Path, *options: str, **environment: str) -> Built:
    """Run ``edge-convert build`` in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    target = folder / "out.bundle"
    start = time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own module
        [
            sys.executable,
            "-m",
            "converter.cli",
            "build",
            str(model),
            "-o",
            str(target),
            "--json",
            *options,
        ],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},  # noqa: TID251 - a child's environment
        text=True,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"edge-convert build: {done.stderr.strip()[-500:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Built(target, json.loads(done.stdout), seconds, peak)


def run_variant(
    bundle: Path, frames: Float32, variant_id: str | None = None
) -> Float32:
    """Return outputs of a bundle's default variant, after its post steps."""
    with Bundle.open(bundle) as opened:
        manifest = opened.manifest
        variant = (
            manifest.select() if variant_id is None else manifest.variant(variant_id)
        )
        content = opened.read(variant.file)
        runtime = "onnxruntime" if variant.runtime == "onnxruntime" else "litert"
        raw = open_engine(runtime, content).run(frames)  # type: ignore[arg-type]
        return apply_post(manifest.post, raw.reshape(len(raw), -1))


def run_file(path: Path, frames: Float32) -> Float32:
    """Return outputs of a float ``.tflite`` file."""
    raw = open_engine("litert", path.read_bytes()).run(frames)
    return raw.reshape(len(raw), -1)


def run_file_of_integers(path: Path, frames: Float32) -> Float32:
    """Return outputs of a ``.tflite`` with integer inputs and outputs, saturating."""
    outputs: Float32 = open_litert(path.read_bytes(), path.name).run(frames)
    return outputs.reshape(len(frames), -1)


def export_float(path: Path) -> bytes:
    """Return a Keras file as the float LiteRT file that `edge-convert` starts from."""
    with open_source(path) as source:
        return normalise(source.export("litert"), source=path.name).content


def anomaly_onnx(folder: Path, float_file: bytes | None = None) -> Path:
    """Write the anomaly detector as ONNX, from the weights of a float LiteRT file."""
    published = TINY / "ad" / "ad01_fp32.tflite"
    content = normalise(float_file or published.read_bytes(), source="ad").content
    parsed: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = parsed.subgraphs[0]
    nodes, weights, given = [], [], "x"
    for layer, one in enumerate(graph.operators):
        for kind, index in (("w", one.inputs[1]), ("b", one.inputs[2])):
            tensor = graph.tensors[index]
            data = np.frombuffer(bytes(parsed.buffers[tensor.buffer].data), "<f4")
            values = data.reshape(tensor.shape).copy()
            weights.append(numpy_helper.from_array(values, f"{kind}{layer}"))
        nodes.append(
            helper.make_node(
                "Gemm", [given, f"w{layer}", f"b{layer}"], [f"g{layer}"], transB=1
            )
        )
        given = f"g{layer}"
        if one.builtinOptions.fusedActivationFunction:
            nodes.append(helper.make_node("Relu", [given], [f"r{layer}"]))
            given = f"r{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 640))
        for name in ("x", given)
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "ad", ends[:1], ends[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    path = folder / "ad.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def sqnr(found: Float32, expected: Float32) -> float:
    """Return the SQNR in dB."""
    return signal_to_noise_db(expected, found)


def anomaly_frames() -> Float32:
    """Return float32 [196, 640]: five log-mel frames each, of one real recording."""
    (recording,) = (TINY / "ad").glob("*.bin")
    mel = np.fromfile(recording, "<f4").reshape(-1, 128)
    return np.stack([mel[at : at + 5].ravel() for at in range(len(mel) - 4)])


def person_frames(count: int, seed: int) -> Float32:
    """Return float32 [count, 96, 96, 3]: crops, flips and tints of two pictures."""
    pictures = [
        _read_bitmap(BENCHDATA / "tflm_models" / name)
        for name in ("person.bmp", "no_person.bmp")
    ]
    random = np.random.default_rng(seed)
    found = []
    for index in range(count):
        side = int(random.integers(56, _SIDE + 1))
        top, left = random.integers(0, _SIDE + 1 - side, 2)
        crop = pictures[index % 2][top : top + side, left : left + side]
        at = (np.arange(_SIDE) * side / _SIDE).astype(int)
        crop = crop[at][:, at]
        if random.random() < 0.5:
            crop = crop[:, ::-1]
        tint = random.uniform(0.7, 1.15, 3)
        noise = random.normal(0, 0.02, (_SIDE, _SIDE, 3))
        found.append(np.clip(crop[..., np.newaxis] * tint + noise, 0, 1))
    return np.array(found, dtype=np.float32)


def digit_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return uint8 [10000, 28, 28, 1] and int64 [10000]: the test digits of MNIST."""
    folder = BENCHDATA / "mnist_t10k"
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as stream:
        images = stream.read()[16:]
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as stream:
        labels = stream.read()[8:]
    return (
        np.frombuffer(images, np.uint8).reshape(-1, 28, 28, 1),
        np.frombuffer(labels, np.uint8).astype(np.int64),
    )


def save(folder: Path, name: str, **arrays: NDArray[Any]) -> str:
    """Write a data file and return its path as text."""
    path = folder / f"{name}.npz"
    np.savez(path, allow_pickle=False, **arrays)
    return str(path)


def _read_bitmap(path: Path) -> Float32:
    data = path.read_bytes()
    start = int.from_bytes(data[10:14], "little")
    pixels = np.frombuffer(data[start : start + _SIDE * _SIDE], np.uint8)
    return pixels.reshape(_SIDE, _SIDE)[::-1].astype(np.float32) / np.float32(255)
