# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from converter.data.frames import ArrayFrames
from converter.errors import ConvertParityError
from converter.litert.normalise import normalise
from converter.loaders.litert import LitertSource
from converter.parity import MIN_INPUTS, check_parity, parity_inputs
from converter.tensors import Float32
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes

FRAMES = np.random.default_rng(1).normal(size=(20, LENGTH, FEATURES)).astype("f4")
STREAM = ArrayFrames(FRAMES)


def source_of(content: bytes, folder: Path) -> LitertSource:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return LitertSource(path)


@pytest.mark.parametrize("count", [1, 16, 64, 500])
def test_there_are_at_least_64_inputs_with_edges(count: int) -> None:
    frames = np.random.default_rng(2).normal(size=(count, LENGTH, FEATURES))
    inputs = parity_inputs(ArrayFrames(frames.astype(np.float32)))
    assert len(inputs) >= min(MIN_INPUTS, 5 * count)
    assert not inputs[0].any()
    assert np.array_equal(inputs[2], frames.astype(np.float32).max(axis=0))


def test_a_model_equals_itself(tmp_path: Path) -> None:
    content = model_bytes()
    found = check_parity(
        source_of(content, tmp_path), normalise(content, source="m"), STREAM
    )
    assert found.inputs >= MIN_INPUTS
    assert found.sqnr_db > 120


def test_a_dropped_bias_is_caught(tmp_path: Path) -> None:
    source = source_of(model_bytes(bias=0.25), tmp_path)
    with pytest.raises(
        ConvertParityError, match="expected the float artifact within 80 dB"
    ):
        check_parity(source, normalise(model_bytes(bias=0.0), source="m"), STREAM)


def test_a_source_that_gives_nan_is_caught(tmp_path: Path) -> None:
    class Broken(LitertSource):
        def infer(self, frames: Float32) -> Float32:
            outputs = super().infer(frames).copy()
            outputs[3, 0] = np.nan
            return outputs

    (tmp_path / "model.tflite").write_bytes(model_bytes())
    with pytest.raises(ConvertParityError, match=r"the source gives NaN .* on 1 of"):
        check_parity(
            Broken(tmp_path / "model.tflite"),
            normalise(model_bytes(), source="m"),
            STREAM,
        )
