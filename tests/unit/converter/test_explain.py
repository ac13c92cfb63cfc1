# SPDX-License-Identifier: Apache-2.0
import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from converter.cli import main
from converter.data.frames import ArrayFrames
from converter.explain import Explanation, explain, format_explanation
from converter.litert.normalise import normalise
from converter.litert.parts import time_operators
from converter.litert.quantizer import LitertQuantizer
from tests.support.onnx_models import dense_onnx, sum_onnx
from tests.support.tflite_models import stack_model

FRAMES = np.random.default_rng(2).normal(size=(80, 64)).astype("f4")
MODEL = normalise(stack_model((64, 48, 32, 24)), source="m")


@pytest.fixture(scope="module")
def found() -> Explanation:
    return explain(MODEL, ArrayFrames(FRAMES))


def test_every_operator_has_its_figures(found: Explanation) -> None:
    assert found.variant.startswith("litert-static-")
    assert [one.type for one in found.operators] == ["FULLY_CONNECTED"] * 3
    stored = [64 * 48 + 48 * 4, 48 * 32 + 32 * 4, 32 * 24 + 24 * 4]
    for one, size in zip(found.operators, stored, strict=True):
        assert (one.dtype, one.why_float, one.bytes) == ("int8", "", size)
        assert one.only_db is not None
        assert one.all_but_db is not None
        assert one.only_db > found.sqnr_db - 1
        assert one.gain_db == pytest.approx(one.all_but_db - found.sqnr_db)
        assert one.microseconds is not None
        assert one.microseconds > 0


def test_the_text_has_a_line_an_operator(found: Explanation) -> None:
    lines = format_explanation(found).splitlines()
    assert len(lines) == 2 + 3 + 1
    assert "dense1" in lines[3]


def test_an_onnx_model_is_explained_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(4)
    weights = random.normal(size=(5, 64)).astype("f4")
    bias = random.normal(size=5).astype("f4")
    model = onnx.load_from_string(dense_onnx(weights, bias, (1, 64)))
    model.graph.node[-1].op_type = "Relu"
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "c.npz", x=FRAMES)
    arguments = ["explain", str(tmp_path / "m.onnx"), "--runtime=onnxruntime"]
    arguments.append("--calibration")
    assert main([*arguments, str(tmp_path / "c.npz"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["variant"].startswith("onnxruntime-static-")
    flatten, dense, relu = document["operators"]
    # The runtime computes it with the operator before it.
    assert (relu["type"], relu["dtype"], relu["bytes"]) == ("Relu", "int8", 0)
    assert relu["microseconds"] is None
    assert (flatten["type"], flatten["dtype"]) == ("Flatten", "float32")
    assert flatten["why_float"] == "the quantizer does not cover Flatten"
    assert (dense["type"], dense["dtype"], dense["why_float"]) == ("Gemm", "int8", "")
    assert dense["bytes"] == 5 * 64 + 5 * 4
    assert dense["microseconds"] > 0
    assert dense["only_db"] == document["sqnr_db"]
    assert dense["gain_db"] is None  # without it nothing is int8


def test_a_model_without_weights_cannot_be_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(sum_onnx(64))
    np.savez(tmp_path / "c.npz", x=FRAMES)
    data = ["--calibration", str(tmp_path / "c.npz")]
    assert main(["explain", str(tmp_path / "m.onnx"), *data]) == 1
    assert "no operator of this model can be quantized" in capsys.readouterr().err


def test_operators_are_timed_apart() -> None:
    work = LitertQuantizer(MODEL)
    work.calibrate(ArrayFrames(FRAMES))
    for one in work.recipes()[:4]:
        times = time_operators(work.make(one).content)
        assert times
        assert all(each > 0 or math.isnan(each) for each in times)


def test_the_verb_prints_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.tflite").write_bytes(MODEL.content)
    np.savez(tmp_path / "c.npz", x=FRAMES)
    arguments = ["explain", str(tmp_path / "m.tflite"), "--calibration"]
    assert main([*arguments, str(tmp_path / "c.npz"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["operators"]) == 3
    assert main([*arguments, str(tmp_path / "absent.npz")]) == 1
