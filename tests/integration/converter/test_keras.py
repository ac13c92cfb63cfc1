# SPDX-License-Identifier: Apache-2.0
"""Builds from Keras and SavedModel sources, with the real framework in its process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from converter.data.frames import ArrayFrames
from converter.errors import (
    ConvertLoaderError,
    ConvertModelError,
    ConvertOperatorError,
)
from converter.exports import export_models
from converter.litert.normalise import normalise
from converter.loaders import open_source
from converter.loaders.framework import FrameworkSource
from converter.parity import check_parity
from converter.profiles import load_profile
from edge_contract.bundle import Bundle
from tests.support.convert_inputs import rows, save
from tests.support.keras_models import make_models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    save(folder / "c.npz", **rows())
    return folder


def run_build(models: Path, out: Path, **environment: str) -> dict[str, Any]:
    settings = [f"{key}={value}" for key, value in environment.items()]
    done = subprocess.run(
        [
            "env",
            *settings,
            sys.executable,
            "-m",
            "converter.cli",
            "build",
            str(models / "conv.keras"),
            "--calibration",
            str(models / "c.npz"),
            "--hop",
            "4",
            "--objective",
            "size",
            "--max-drop",
            "50%",
            "--json",
            "-o",
            str(out),
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_two_builds_of_a_keras_file_are_the_same_bytes(
    models: Path, tmp_path: Path
) -> None:
    first = run_build(
        models, tmp_path / "1.bundle", PYTHONHASHSEED="0", OMP_NUM_THREADS="1"
    )
    second = run_build(
        models, tmp_path / "2.bundle", PYTHONHASHSEED="11", OMP_NUM_THREADS="2"
    )
    assert first["digest"] == second["digest"]
    assert (tmp_path / "1.bundle").read_bytes() == (tmp_path / "2.bundle").read_bytes()
    assert first["framework"] == "keras"
    assert first["parity_sqnr_db"] >= 80
    assert first["selected"]["default"] != "litert-float32"
    with Bundle.open(tmp_path / "1.bundle") as bundle:
        toolchain = bundle.manifest.lineage["toolchain"]
        assert {"keras", "tensorflow", "ai-edge-litert"} <= set(toolchain)


@pytest.mark.parametrize("name", ["conv.h5", "saved"])
def test_other_sources_export_what_they_compute(models: Path, name: str) -> None:
    frames = ArrayFrames(rows(recordings=8, length=8)["x"].reshape(8, 8, 3))
    with open_source(models / name) as source:
        model = normalise(source.export("litert"), source=name)
        assert check_parity(source, model, frames).sqnr_db >= 80


@pytest.mark.parametrize("name", ["conv.keras", "saved"])
def test_a_device_with_onnx_runtime_gets_a_model_of_its_own(
    models: Path, name: str
) -> None:
    frames = ArrayFrames(rows(recordings=8, length=8)["x"].reshape(8, 8, 3))
    with open_source(models / name) as source:
        found, absent = export_models(source, [load_profile("aarch64-a72")])
        assert [one.runtime for one in found] == ["litert", "onnxruntime"]
        assert [one.post for one in found] == [("softmax",)] * 2
        for one in found:
            assert check_parity(source, one, frames).sqnr_db >= 80
        again, _ = export_models(source, [load_profile("aarch64-a72")])
    assert [one.content for one in again] == [one.content for one in found]
    assert absent == {
        "reference": "the reference runtime is for linear models and trees"
    }


def test_an_operator_that_the_runtime_lacks_is_named(models: Path) -> None:
    with (
        open_source(models / "flex.keras") as source,
        pytest.raises(ConvertOperatorError, match=r"(?i)found .*(erfinv|ndtri)"),
    ):
        source.export("litert")


def test_a_file_that_keras_cannot_read_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "broken.keras"
    archive.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ConvertModelError, match="keras cannot load this file"):
        open_source(archive)


def test_what_names_itself_keras_and_is_not_is_refused(tmp_path: Path) -> None:
    for name in ("text.keras", "text.h5", "model.pb"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(ConvertModelError, match="Next: "):
            open_source(tmp_path / name)
    with pytest.raises(ConvertModelError, match=r"no saved_model\.pb"):
        open_source(tmp_path)


def test_a_worker_that_dies_is_reported(models: Path) -> None:
    source = FrameworkSource(models / "conv.keras", "keras")
    source._worker.kill()
    with source, pytest.raises(ConvertLoaderError, match="ended in 'infer'"):
        source.infer(rows(recordings=1, length=8)["x"].reshape(1, 8, 3))


def test_the_parent_never_imports_a_framework(models: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from converter.cli import main;"
        f"code = main(['build', {str(models / 'conv.keras')!r}, '--hop', '4',"
        f" '--calibration', {str(models / 'c.npz')!r},"
        f" '-o', {str(tmp_path / 'o.bundle')!r}]);"
        "assert code == 0;"
        "bad = {'tensorflow', 'keras', 'torch', 'onnx'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
