# SPDX-License-Identifier: Apache-2.0
"""Real networks in every runtime that they reach, held to their source."""

from pathlib import Path

import numpy as np
import pytest

from converter.data.frames import ArrayFrames
from converter.emit.onnx import emit_onnx
from converter.exports import export_models
from converter.litert.normalise import normalise
from converter.loaders import open_source
from converter.loaders.reach import Reach
from converter.ort.normalise import normalise as normalise_onnx
from converter.parity import check_parity
from converter.profiles import load_profile
from converter.runtimes import open_engine
from edge_contract.golden import signal_to_noise_db

pytestmark = [pytest.mark.benchdata, pytest.mark.slow]
MODELS = {
    "mlperf_tiny/ad/ad01.h5": (640,),
    "mlperf_tiny/ic/pretrainedResnet.h5": (32, 32, 3),
    "mlperf_tiny/kws/kws_ref_model": (49, 10, 1),
    "mlperf_tiny/sww/str_ww_ref_model.h5": (30, 1, 40),
    "mlperf_tiny/vww/vww_96.h5": (96, 96, 3),
}
FILES = (
    "litert_mnist_models/conv_fc_mnist.tflite",
    "mlperf_tiny/ad/ad01_fp32.tflite",
    "mlperf_tiny/ic/pretrainedResnet_large_float.tflite",
    "mlperf_tiny/vww/vww_96_float.tflite",
    "tflm_models/hello_world_float.tflite",
)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_the_same_in_both_runtimes(benchdata: Path, name: str) -> None:
    random = np.random.default_rng(0)
    frames = random.normal(0, 1, (64, *MODELS[name])).astype(np.float32)
    with open_source(benchdata / name) as source:
        models, absent = export_models(source, [load_profile("aarch64-a72")])
        assert [one.runtime for one in models] == ["litert", "onnxruntime"]
        assert list(absent) == ["reference"]
        for one in models:
            assert check_parity(source, one, ArrayFrames(frames)).sqnr_db >= 100
    litert, onnx = models
    assert onnx.input.shape == litert.input.shape
    assert onnx.post == litert.post
    # Not one batch size of the export is computed when it runs.
    assert not {"SHAPE", "PACK", "STRIDED_SLICE"} & set(litert.operators)
    assert onnx.operators.count("Transpose") <= 1


@pytest.mark.parametrize("name", FILES)
def test_the_emitter_takes_files_of_any_origin(benchdata: Path, name: str) -> None:
    litert = normalise((benchdata / name).read_bytes(), source=name)
    onnx = normalise_onnx(emit_onnx(litert), source=name)
    random = np.random.default_rng(0)
    frames = random.normal(0, 1, (64, *litert.input.shape[1:])).astype(np.float32)
    expected = open_engine("litert", litert.content, "builtin").run(frames)
    found = open_engine("onnxruntime", onnx.content).run(frames)
    assert signal_to_noise_db(expected, found) >= 100
    assert onnx.post == litert.post


def test_an_operator_without_a_way_is_named(benchdata: Path) -> None:
    path = benchdata / "tflm_models" / "trained_lstm.tflite"
    reach = Reach(path.read_bytes(), "litert", path.name)
    assert reach.why_not("litert") == ""
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM is not converted" in reach.why_not(
        "onnxruntime"
    )


def test_a_litert_file_stays_one(benchdata: Path) -> None:
    with open_source(benchdata / FILES[0]) as source:
        models, absent = export_models(source, [load_profile("aarch64-a72")])
    assert [one.runtime for one in models] == ["litert"]
    assert set(absent) == {"onnxruntime", "reference"}
