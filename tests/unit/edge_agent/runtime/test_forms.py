# SPDX-License-Identifier: Apache-2.0
"""Models of every form and runtime, loaded from real bundles."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import BackendError, ModelError
from edge_agent.flow import Grid
from edge_agent.runtime.backend import find_backend
from edge_agent.runtime.model import Model, load, prove
from edge_contract import quality
from edge_contract.bundle import Bundle
from edge_contract.errors import StepError
from edge_contract.steps import apply_pre
from tests.support.bundles import ModelRecipe, make_bundle
from tests.support.tflite_models import int8_input_model

IMAGE = ModelRecipe(observe="image", length=6, features=3)
FORMS = {
    "onnx": ModelRecipe(runtime="onnxruntime"),
    "image": IMAGE,
    "onnx-image": ModelRecipe(
        observe="image", length=6, features=3, runtime="onnxruntime"
    ),
    "regression": ModelRecipe(observe="vector", task="regression"),
}


def loaded(folder: Path, recipe: ModelRecipe) -> Model:
    make_bundle(folder / "one.bundle", recipe)
    return load(folder / "one.bundle", allow_unsigned=True)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reproduces_its_golden_vectors(tmp_path: Path, form: str) -> None:
    model = loaded(tmp_path, FORMS[form])
    with Bundle.open(tmp_path / "one.bundle") as bundle:
        prove(model, bundle)
        frame = bundle.golden.inputs[0]
        expected = bundle.golden.outputs["float32"][0]
    assert np.allclose(model.infer(frame), expected, atol=1e-6)
    flat = frame.reshape(1, -1)
    assert np.array_equal(model.infer(flat), model.infer(frame)) or (
        model.manifest.observe == "series"
    )


def test_a_scale_comes_before_the_model_and_not_before_statistics(
    tmp_path: Path,
) -> None:
    step = {"step": "scale", "factor": "0.5", "offset": "-1"}
    plain = loaded(tmp_path, IMAGE)
    (tmp_path / "scaled").mkdir()
    recipe = ModelRecipe(observe="image", length=6, features=3, pre=(step,))
    scaled = loaded(tmp_path / "scaled", recipe)
    frame = np.random.default_rng(1).normal(size=(6, 6, 3)).astype(np.float32)
    half = frame * np.float32(0.5) - np.float32(1)
    assert np.allclose(scaled.infer(frame), plain.infer(half))
    rows = frame.reshape(1, -1)
    assert scaled.reduce is not None
    assert plain.reduce is not None
    assert np.array_equal(scaled.reduce(rows), plain.reduce(rows))
    assert scaled.reduce(rows).shape == (1, 5)


def test_a_resize_makes_frames_of_the_sources_size(tmp_path: Path) -> None:
    step = {"step": "resize", "from": "12,18,3", "to": "6,6"}
    recipe = ModelRecipe(observe="image", length=6, features=3, pre=(step,))
    model = loaded(tmp_path, recipe)
    (tmp_path / "plain").mkdir()
    plain = loaded(tmp_path / "plain", IMAGE)
    frame = np.random.default_rng(1).random((12, 18, 3), dtype=np.float32)
    small = apply_pre((step,), frame[np.newaxis])

    assert model.grid == Grid(1, 1, 12 * 18 * 3)
    np.testing.assert_array_equal(model.infer(frame), plain.infer(small))
    flat = frame.reshape(1, -1)
    np.testing.assert_array_equal(model.infer(flat), plain.infer(small))
    assert model.reduce is not None
    np.testing.assert_array_equal(
        model.reduce(flat), quality.observe("image", frame[np.newaxis])
    )
    with pytest.raises(BackendError, match=r"expected .* \[12, 18, 3\]"):
        model.infer(small)


def test_steps_that_do_not_lead_to_the_model_are_refused(tmp_path: Path) -> None:
    step = {"step": "resize", "from": "12,18,3", "to": "5,6"}
    recipe = ModelRecipe(observe="image", length=6, features=3, pre=(step,))
    with pytest.raises(StepError, match=r"end in \[6, 6, 3\]"):
        loaded(tmp_path, recipe)


def test_values_beyond_an_integer_inputs_range_saturate() -> None:
    backend = find_backend("litert").load_model(
        int8_input_model(6, scale=0.1, zero_point=-28), threads=1
    )
    given = np.array([[1e9, -1e9, 3e38, -3e38, 20, 0.5]], dtype=np.float32)
    # int8 from -128 to 127 stands for -10 to 15.5.
    expected = [15.5, -10.0, 15.5, -10.0, 15.5, 0.5]
    assert backend.infer(given)[0].tolist() == pytest.approx(expected)
    for nothing in (np.nan, np.inf, -np.inf):
        given[0, 2] = nothing
        assert np.isnan(backend.infer(given)).all()


def test_a_newer_runtime_than_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs litert 99\.0\.0, found 2\.3\.0"):
        loaded(tmp_path, ModelRecipe(min_runtime="99.0.0"))


def test_a_runtime_that_is_not_installed_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tflite-runtime is not installed"):
        loaded(tmp_path, ModelRecipe(runtime="tflite-runtime"))


def test_a_runtime_that_is_installed_and_does_not_load_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "tflite_runtime"
    broken.mkdir()
    why = "libstdc++.so.6: cannot open shared object file: No such file or directory"
    (broken / "__init__.py").write_text("")
    (broken / "interpreter.py").write_text(f"raise ImportError({why!r})\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BackendError, match="installed and cannot be loaded") as caught:
        find_backend("tflite-runtime").load_model(b"", threads=1)

    assert why in caught.value.message
    assert "apt install libstdc++6" in caught.value.next_step


def test_no_onnx_model_is_refused() -> None:
    with pytest.raises(BackendError, match="ONNX Runtime: the model cannot be loaded"):
        find_backend("onnxruntime").load_model(b"no model", threads=1)


def test_a_wrong_shape_is_the_backends_error(tmp_path: Path) -> None:
    model = loaded(tmp_path, FORMS["onnx"])
    with pytest.raises(BackendError, match="ONNX Runtime"):
        model.backend.infer(np.zeros((1, 3, 2), dtype=np.float32))


@pytest.mark.benchdata
def test_an_integer_model_saturates_and_lets_nothing_missing_pass(
    benchdata: Path,
) -> None:
    model = benchdata / "mlperf_tiny" / "kws" / "kws_ref_model.tflite"
    backend = find_backend("litert").load_model(model.read_bytes(), threads=1)
    frame = np.full(backend.input_shape, 1e30, dtype=np.float32)
    top = np.full(backend.input_shape, 1e4, dtype=np.float32)

    np.testing.assert_array_equal(backend.infer(frame), backend.infer(top))
    frame[0, 3, 3, 0] = np.nan

    assert np.isnan(backend.infer(frame)).all()
    assert np.isfinite(backend.infer(top)).all()
