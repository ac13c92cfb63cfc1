# SPDX-License-Identifier: Apache-2.0
"""``edge-convert inspect MODEL``: which runtimes and devices a model reaches."""

import json
from pathlib import Path
from typing import Any

import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier

from converter.cli import main
from tests.support.convert_inputs import model_bytes
from tests.support.onnx_graphs import chain, onnx_bytes
from tests.support.sklearn_models import digits, fitted, save_joblib


def inspect(
    capsys: pytest.CaptureFixture[str], path: Path, *more: str, code: int = 0
) -> Any:
    assert main(["inspect", str(path), "--json", *more]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_forest_reaches_every_profile_but_not_litert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, labels = digits()
    forest = fitted(RandomForestClassifier(2, random_state=0), values, labels)
    path = tmp_path / "forest.skops"
    skops.io.dump(forest, path)
    found = inspect(capsys, path)
    assert found["framework"] == "sklearn"
    assert found["labels"] == [str(one) for one in range(10)]
    assert found["runtimes"]["reference"]["operators"] == ["Trees"]
    assert found["runtimes"]["litert"] == {
        "reason": "LiteRT: TreeEnsembleClassifier is not converted from ONNX"
    }
    assert found["profiles"]["armv7l-tflite214"] == ["reference"]
    assert found["profiles"]["aarch64-a72"] == ["onnxruntime", "reference"]
    assert main(["inspect", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  armv7l-tflite214  reference" in lines


def test_a_litert_file_stays_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dense.tflite"
    path.write_bytes(model_bytes())
    found = inspect(capsys, path)["runtimes"]
    assert found["litert"]["post"] == ["softmax"]
    assert found["litert"]["input"] == [1, 8, 3]
    reason = "a .tflite file is for LiteRT"
    assert found["reference"] == found["onnxruntime"] == {"reason": reason}


def test_a_device_that_is_not_reached_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "erf.onnx"
    path.write_bytes(onnx_bytes(chain(("Erf", "", {})), (1, 3)))
    assert inspect(capsys, path)["profiles"]["armv7l-tflite214"] == []
    assert main(["inspect", str(path)]) == 0
    assert "armv7l-tflite214  refused: no runtime there" in capsys.readouterr().out


def test_a_pickle_is_refused_here_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_joblib(tmp_path / "model.joblib", {"any": "thing"})
    assert inspect(capsys, path, code=3)["error"] == "convert.trust"
    assert inspect(capsys, path, "--trust-pickle", code=1)["error"] == "convert.model"
