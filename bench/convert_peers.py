# SPDX-License-Identifier: Apache-2.0
"""The same models and data through each tool: quality, speed and size side by side.

Every tool starts from the same Keras file, or its exact float export. Everything is
timed in one run, in turns, on one thread. Quality is the SQNR against the float model
on inputs that no tool calibrated on; the speed of a tool is beside ours. A tool that
cannot convert a model has no row: TFLiteConverter takes no .tflite (MNIST), and there
is an .onnx of the anomaly detector only. Inputs of ResNet8 are crops of two pictures,
not what it was trained on: they tell tools apart, nothing about accuracy.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.harness import models, peers
from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.tiles import refuse_tiles
from converter.measure import time_in_turns
from converter.model import Runtime
from converter.runtimes import open_engine
from edge_contract.bundle import Bundle
from edge_contract.steps import apply_post

Float32 = models.Float32
# What counts as equal: no listener or classifier tells half a decibel; 8 % is about the
# noise of a shared machine, and what the choice treats as a tie.
DECIBELS = 0.5
TIE = 1.08


@dataclass(frozen=True, eq=False)
class Case:
    """A model, its float outputs and its data."""

    name: str
    source: Path
    float_file: bytes
    calibration: Float32
    evaluation: Float32
    softmax: bool


@dataclass(frozen=True, eq=False)
class Entry:
    """One tool's file."""

    tool: str
    runtime: Runtime
    content: bytes
    outputs: Float32


def run() -> Document:
    """Run every tool on four models."""
    if not models.are_here():
        return make_document("convert_peers", [Row(models.ABSENT, 0.0, "-")])
    refuse_tiles()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in _cases():
            rows += _measure(case, Path(scratch))
    return make_document("convert_peers", rows)


def _cases() -> list[Case]:
    frames = models.anomaly_frames()
    return [
        Case(
            "AD",
            models.TINY / "ad" / "ad01.h5",
            models.export_float(models.TINY / "ad" / "ad01.h5"),
            frames[:98],
            frames[98:],
            softmax=False,
        ),
        Case(
            "VWW",
            models.TINY / "vww" / "vww_96.h5",
            models.export_float(models.TINY / "vww" / "vww_96.h5"),
            models.person_frames(128, seed=1),
            models.person_frames(128, seed=3),
            softmax=True,
        ),
        _small_pictures(),
        _digits(),
    ]


def _small_pictures() -> Case:
    source = models.TINY / "ic" / "pretrainedResnet.h5"
    calibration, evaluation = (
        models.person_frames(128, seed=seed)[:, ::3, ::3] * np.float32(255)
        for seed in (1, 3)
    )
    content = models.export_float(source)
    return Case("ResNet8", source, content, calibration, evaluation, softmax=True)


def _digits() -> Case:
    source = models.BENCHDATA / "litert_mnist_models" / "conv_fc_mnist.tflite"
    images = models.digit_images()[0][:1128].astype(np.float32) / np.float32(255)
    content = peers.normal_form(source.read_bytes())
    return Case("MNIST", source, content, images[:128], images[1000:], softmax=True)


def _measure(case: Case, folder: Path) -> list[Row]:
    expected = peers.run_bytes(case.float_file, case.evaluation, softmax=case.softmax)
    entries = [_ours(case, folder), *_theirs(case, folder)]
    engines = [open_engine(one.runtime, one.content) for one in entries]
    times = time_in_turns(engines, case.evaluation)
    first = times[0].median_us
    ours = models.sqnr(entries[0].outputs, expected)
    rows = []
    for one, time in zip(entries, times, strict=True):
        quality = models.sqnr(one.outputs, expected)
        latency = time.median_us
        size, own_size = len(one.content), len(entries[0].content)
        own = one is entries[0]
        rows += [
            Row(
                f"{case.name}: {one.tool}, SQNR",
                quality,
                "dB",
                baseline=ours,
                n=len(case.evaluation),
                asked=None if own else f"ours no more than {DECIBELS} dB below",
                holds=None if own else ours >= quality - DECIBELS,
            ),
            Row(
                f"{case.name}: {one.tool}, latency",
                latency,
                "us",
                baseline=first,
                ratio=latency / first,
                n=time.calls,
                asked=None if own else f"ours at most {TIE} x it",
                holds=None if own else first <= latency * TIE,
            ),
            Row(
                f"{case.name}: {one.tool}, size",
                float(size),
                "B",
                baseline=float(own_size),
                ratio=size / own_size,
                asked=None if own else f"ours at most {TIE} x it",
                holds=None if own else own_size <= size * TIE,
            ),
        ]
    return rows


def _ours(case: Case, folder: Path) -> Entry:
    half = len(case.calibration) // 2
    built = models.build(
        case.source,
        folder,
        "--calibration",
        models.save(folder, "c", x=case.calibration[:half]),
        "--validation",
        models.save(folder, "v", x=case.calibration[half:]),
        "--max-drop",
        "10%",
    )
    with Bundle.open(built.bundle) as bundle:
        variant = bundle.manifest.select()
        content, post = bundle.read(variant.file), bundle.manifest.post
    raw = open_engine("litert", content).run(case.evaluation)
    outputs = apply_post(post, raw.reshape(len(raw), -1))
    return Entry(f"edge-convert ({variant.id})", "litert", content, outputs)


def _theirs(case: Case, folder: Path) -> list[Entry]:
    content = case.float_file
    makers: list[tuple[str, Callable[[], bytes | None]]] = [
        (
            "ai-edge-quantizer static_wi8_ai8",
            lambda: peers.plain_static(content, case.calibration),
        ),
        ("ai-edge-quantizer dynamic_wi8_afp32", lambda: peers.plain_dynamic(content)),
    ]
    entries = []
    for tool, make in makers:
        made = make()
        if made is not None:
            outputs = peers.run_bytes(made, case.evaluation, softmax=case.softmax)
            entries.append(Entry(tool, "litert", made, outputs))
    made = peers.tensorflow_default(case.source, case.calibration)
    if made is not None:
        outputs = peers.run_bytes(made, case.evaluation, softmax=False)
        entries.append(Entry("TFLiteConverter default int8", "litert", made, outputs))
    if case.name == "AD":
        onnx = models.anomaly_onnx(folder, content).read_bytes()
        made = peers.onnxruntime_default(onnx, case.calibration)
        raw = open_engine("onnxruntime", made).run(case.evaluation)
        entries.append(Entry("onnxruntime defaults", "onnxruntime", made, raw))
    return entries


if __name__ == "__main__":
    write_document(run())
