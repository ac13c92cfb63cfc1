# SPDX-License-Identifier: Apache-2.0
"""PyTorch models from their file to an answer on a device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.cli import main
from converter.data.frames import ArrayFrames
from converter.errors import ConvertLoaderError, ConvertModelError
from converter.exports import export_models
from converter.loaders import open_source
from converter.parity import check_parity
from converter.profiles import load_profile
from edge_agent import load
from tests.support.torch_models import find_python, make_models

SETTING = "EDGE_CONVERT_TORCH_PYTHON"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = find_python()
    if isinstance(python, str):
        pytest.skip(python)
    folder = tmp_path_factory.mktemp("torch")
    make_models(python, folder)
    (folder / "python").symlink_to(python)
    return folder


@pytest.fixture
def torch_python(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, str((models / "python").readlink()))


def arrays(models: Path, name: str) -> tuple[Any, Any]:
    with np.load(models / f"{name}.npz") as found:
        return found["x"], found["expected"]


@pytest.mark.slow
@pytest.mark.usefixtures("torch_python")
@pytest.mark.parametrize("name", ["pictures", "pooled", "windows"])
def test_both_runtimes_give_what_pytorch_gives(models: Path, name: str) -> None:
    inputs, expected = arrays(models, name)
    with open_source(models / f"{name}.pt2") as source:
        found, _ = export_models(source, [load_profile("x86-vnni")])
        assert [one.runtime for one in found] == ["litert", "onnxruntime"]
        for one in found:
            assert check_parity(source, one, ArrayFrames(inputs)).sqnr_db >= 100
        np.testing.assert_allclose(source.infer(inputs), expected, atol=1e-6)
        assert {"torch", "onnxscript"} == set(source.toolchain)
    # A picture with its channels last goes into the first convolution as it is.
    assert "TRANSPOSE" not in found[0].operators


@pytest.mark.slow
@pytest.mark.usefixtures("torch_python")
def test_a_bundle_answers_as_the_module(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, expected = arrays(models, "pictures")
    np.savez(tmp_path / "data.npz", x=inputs, allow_pickle=True)
    out = tmp_path / "pictures.bundle"
    code = main(
        [
            *("build", str(models / "pictures.pt2"), "-o", str(out), "--json"),
            *("--calibration", str(tmp_path / "data.npz")),
            *("--profile", "armv7l-tflite214", "--no-device-check"),
            *("--max-drop", "50%", "--objective", "size"),
        ]
    )
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["framework"] == "torch"
    assert report["selected"]["armv7l-tflite214"].startswith("tflite-runtime")
    model = load(out, allow_unsigned=True, device_profile="default")
    found = np.stack([model.infer(one) for one in inputs])
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.95
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("torch_python")
def test_an_operator_without_a_way_to_litert_is_named(models: Path) -> None:
    with open_source(models / "erf.pt2") as source:
        assert source.why_not("litert") == "LiteRT: Erf is not converted from ONNX"
        assert source.why_not("onnxruntime") == ""


@pytest.mark.slow
@pytest.mark.usefixtures("torch_python")
def test_a_file_that_pytorch_cannot_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ConvertModelError, match=r"torch\.export cannot load this"):
        open_source(path)


@pytest.mark.parametrize("name", ["model.pt", "model.PTH"])
def test_pickles_of_pytorch_say_how_to_export(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(ConvertModelError, match=r"Next: torch\.export\.save"):
        open_source(tmp_path / name, trust_pickle=True)


def test_without_pytorch_the_next_step_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt2").write_bytes(b"PK\x03\x04")
    (tmp_path / "onnxscript.py").write_text("raise ImportError('hidden by a test')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv(SETTING, raising=False)
    with pytest.raises(ConvertLoaderError, match=SETTING):
        open_source(tmp_path / "model.pt2")


def test_a_setting_that_is_no_python_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt2").write_bytes(b"PK\x03\x04")
    monkeypatch.setenv(SETTING, str(tmp_path / "nowhere"))
    with pytest.raises(ConvertLoaderError, match="nowhere"):
        open_source(tmp_path / "model.pt2")
