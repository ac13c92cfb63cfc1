# SPDX-License-Identifier: Apache-2.0
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from ai_edge_quantizer import quantizer, recipe

from converter.cli import main
from converter.data.frames import ArrayFrames
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.verify import Verification, verify
from tests.support.convert_inputs import model_bytes
from tests.support.onnx_models import dense_onnx
from tests.support.tflite_models import stack_model

FRAMES = np.random.default_rng(2).normal(size=(80, 64)).astype("f4")
MODEL = normalise(stack_model((64, 48, 32, 24)), source="m")


def file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def codes(found: tuple[Verification, ...]) -> list[tuple[str, str]]:
    return [(one.severity, one.code) for one in found[0].findings]


def todays(name: str) -> bytes:
    """Return what a recipe of the quantizer gives, untouched by us."""
    work = quantizer.Quantizer(MODEL.content)
    work.load_quantization_recipe(getattr(recipe, name)())
    data = {"serving_default": [{"input": one[np.newaxis]} for one in FRAMES]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about the memory it takes
        ranges = work.calibrate(data) if work.need_calibration else None
        found = work.quantize(ranges, enable_progress_report=False)
    return bytes(found.quantized_model)


def test_a_model_equals_itself(tmp_path: Path) -> None:
    one = file(tmp_path, "a.tflite", MODEL.content)
    (found,) = verify(one, file(tmp_path, "b.tflite", MODEL.content))
    assert (found.ok, found.inputs, found.agreement, found.findings) == (
        True,
        64,
        1.0,
        (),
    )
    assert found.sqnr_db == 999.0


def test_a_lost_bias_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = file(tmp_path, "lost.tflite", model_bytes(bias=0.0))
    source = file(tmp_path, "source.tflite", model_bytes(bias=0.25))
    found = verify(lost, source)
    assert codes(found) == [
        ("error", "parity"),
        ("warning", "no-signature"),
        ("warning", "old-codes"),
    ]
    assert main(["verify", str(lost), "--against", str(source)]) == 4
    assert "NOT OK" in capsys.readouterr().out
    assert main(["verify", str(lost), "--against", str(source), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["results"][0]["ok"] is False


def test_a_float_file_with_integer_weights_is_named(tmp_path: Path) -> None:
    path = file(tmp_path, "float32.tflite", todays("dynamic_wi8_afp32"))
    found = verify(path, None)
    assert codes(found)[:2] == [
        ("error", "operator-version"),
        ("error", "not-float"),
    ]
    assert "3 weight tensors are int8" in found[0].findings[1].message
    assert found[0].sqnr_db is None


def test_integer_inputs_are_scaled_and_saturate(tmp_path: Path) -> None:
    path = file(tmp_path, "int8.tflite", todays("static_wi8_ai8"))
    source = file(tmp_path, "float.tflite", MODEL.content)
    data = tmp_path / "d.npz"
    np.savez(data, x=FRAMES)
    (found,) = verify(path, source, data=data)
    assert found.inputs == 80
    assert found.sqnr_db is not None
    assert found.sqnr_db > 10
    np.savez(data, x=FRAMES * 50)
    (far,) = verify(path, source, data=data)
    assert far.sqnr_db is not None
    assert 0 < far.sqnr_db < 5  # clipped, not wrapped around


def test_our_own_variants_are_clean(tmp_path: Path) -> None:
    work = LitertQuantizer(MODEL)
    work.calibrate(ArrayFrames(FRAMES))
    source = file(tmp_path, "float.tflite", MODEL.content)
    data = tmp_path / "d.npz"
    np.savez(data, x=FRAMES)
    for one in work.recipes():
        path = file(tmp_path, "one.tflite", work.make(one).content)
        (found,) = verify(path, source, data=data, min_sqnr_db=20.0)
        assert [each.code for each in found.findings if each.code != "not-float"] == []


def test_files_of_two_kinds_are_compared(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(3, 24)).astype("f4")
    content = dense_onnx(weights, np.zeros(3, "f4"), ("N", 8, 3), softmax=False)
    one = file(tmp_path, "a.onnx", content)
    two = file(tmp_path, "b.onnx", content)
    data = tmp_path / "d.npz"
    np.savez(data, x=FRAMES[:, :24].reshape(-1, 8, 3))
    (found,) = verify(one, two, data=data)
    assert found.ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.tflite"], "cannot be read"),
        (["a.onnx", "--against", "a.onnx"], "pass --data"),
        (["a.tflite", "--data", "narrow.npz"], "expected frames"),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    file(tmp_path, "a.tflite", MODEL.content)
    weights = np.zeros((3, 24), "f4")
    file(tmp_path, "a.onnx", dense_onnx(weights, np.zeros(3, "f4"), ("N", 8, 3)))
    np.savez(tmp_path / "narrow.npz", x=FRAMES[:, :5])
    paths = [one if one[0] == "-" else str(tmp_path / one) for one in arguments]
    assert main(["verify", *paths]) in {1, 2}
    assert message in capsys.readouterr().err


@pytest.mark.benchdata
def test_a_published_float_file_that_is_none_is_flagged(benchdata: Path) -> None:
    found = verify(
        benchdata / "mlperf_tiny" / "kws" / "kws_ref_model_float32.tflite", None
    )
    errors = {one.code: one.message for one in found[0].findings}
    assert "5 weight tensors are int8" in errors["not-float"]


@pytest.mark.benchdata
@pytest.mark.slow
def test_a_published_conversion_that_lost_its_biases_is_flagged(
    benchdata: Path, tmp_path: Path
) -> None:
    folder = benchdata / "mlperf_tiny" / "ad"
    (recording,) = folder.glob("*.bin")
    mel = np.fromfile(recording, "<f4").reshape(-1, 128)
    frames = np.stack([mel[at : at + 5].ravel() for at in range(len(mel) - 4)])
    np.savez(tmp_path / "d.npz", x=frames)
    (found,) = verify(
        folder / "ad01_fp32.tflite", folder / "ad01.h5", data=tmp_path / "d.npz"
    )
    assert "parity" in {one.code for one in found.findings}
    assert found.sqnr_db == pytest.approx(38, abs=1)
