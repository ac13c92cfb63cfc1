# SPDX-License-Identifier: Apache-2.0
"""What people get wrong, through the command: each ends with its reason and no file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils

from converter.cli import main
from tests.support.convert_inputs import (
    FEATURES,
    HOP,
    LENGTH,
    model_bytes,
    rows,
    save,
    with_custom_operator,
)
from tests.support.onnx_models import dense_onnx

GOOD = rows()
WEIGHTS = np.ones((FEATURES, LENGTH * FEATURES), dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.tflite").write_bytes(model_bytes())
    save(tmp_path / "in" / "c.npz", **GOOD)
    return tmp_path


def refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    *more: str,
    model: str = "m.tflite",
) -> tuple[int, str, str, str]:
    """Build; return exit code, error code, message and next step."""
    arguments = ["build", str(folder / "in" / model), "--hop", str(HOP), "--json"]
    if "--calibration" not in more:
        arguments += ["--calibration", str(folder / "in" / "c.npz")]
    code = main([*arguments, *more, "-o", str(folder / "out.bundle")])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [one.name for one in folder.iterdir()] == ["in"]
    return code, found["error"], found["message"], found["next_step"]


def dynamic_tflite() -> bytes:
    model: Any = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes()))
    model.subgraphs[0].tensors[0].shapeSignature = [-1, -1, FEATURES]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def dynamic_onnx() -> bytes:
    return dense_onnx(WEIGHTS, WEIGHTS[:, 0], ("N", "T", FEATURES))


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("a.tflite", b"no model at all", "convert.model", "not a valid Flatbuffer"),
        ("a.onnx", b"no model at all", "convert.model", "expected an ONNX model"),
        ("a.bin", b"", "convert.model", "expected .keras"),
        (
            "a.tflite",
            with_custom_operator(model_bytes(), b"MyOp"),
            "convert.operator",
            "found MyOp",
        ),
        ("a.tflite", dynamic_tflite(), "convert.shape", "fixed sizes after the batch"),
        ("a.onnx", dynamic_onnx(), "convert.shape", "fixed sizes after the batch"),
    ],
)
def test_models_that_cannot_be_converted(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    code: str,
    message: str,
) -> None:
    (folder / "in" / name).write_bytes(content)
    status, found, text, step = refused(folder, capsys, model=name)
    assert (status, found) == (1, code)
    assert message in text
    assert name in text
    assert step


@pytest.mark.benchdata
def test_the_runtimes_own_refusal_is_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], benchdata: Path
) -> None:
    content = (benchdata / "tflm_models" / "person_detect.tflite").read_bytes()
    (folder / "in" / "person.tflite").write_bytes(content)
    status, code, text, step = refused(folder, capsys, model="person.tflite")
    assert (status, code) == (1, "convert.model")
    assert "quantized_dimension must be" in text
    assert "quantize the float model anew" in step


def spoilt(value: float) -> np.ndarray:
    values: np.ndarray = GOOD["x"].copy()
    values[7, 1] = value
    return values


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        (GOOD["x"][:, :2], (), "expected shape"),
        (GOOD["x"].astype(np.float64), (), "expected dtype float32"),
        (spoilt(np.nan), (), "found 1 NaN or infinite, the first at [7, 1]"),
        (spoilt(np.inf), (), "found 1 NaN or infinite, the first at [7, 1]"),
        (GOOD["x"] * 255, ("--input-range=-5,5",), "expected inputs from -5 to 5"),
        (GOOD["x"][: LENGTH + 2 * HOP], (), "at least 16 frames, found 3"),
    ],
)
def test_calibration_data_that_does_not_fit(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    values: np.ndarray,
    more: tuple[str, ...],
    message: str,
) -> None:
    data = str(save(folder / "in" / "bad.npz", x=values))
    for role in ("--calibration", "--validation"):
        status, code, text, step = refused(folder, capsys, role, data, *more)
        assert (status, code) == (1, "convert.data")
        assert message in text
        assert "bad.npz" in text
        assert step


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise KeyError('no such column')", "KeyError: 'no such column'"),
        ("return float('nan')", "expected a finite number, found nan"),
        ("return 'good'", "'good'"),
        ("raise SystemExit(0)", "SystemExit"),
    ],
)
def test_a_metric_function_that_fails(
    folder: Path, capsys: pytest.CaptureFixture[str], body: str, message: str
) -> None:
    script = folder / "in" / "metric.py"
    script.write_text(f"def score(outputs, truth):\n    {body}\n")
    status, code, text, step = refused(folder, capsys, "--metric", f"{script}:score")
    assert (status, code) == (1, "convert.metric")
    assert message in text
    assert "score" in text
    assert step


def test_a_budget_that_nothing_meets_names_the_nearest_and_what_it_takes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--max-drop", "0.01%", "--require-quantized", "--objective", "size")
    status, code, text, step = refused(folder, capsys, *more)
    assert (status, code) == (4, "convert.budget")
    assert "no quantized variant is within the budget; the nearest is litert-" in text
    assert "(95 %): not proven within 0.01%; " in text
    assert " more samples than 228" in text or "more samples would not help" in text
    assert step == "give more validation data, or a larger --max-drop"
