# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from converter.candidate import Recipe
from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError
from converter.litert.normalise import normalise
from converter.litert.quantizer import static_candidate
from converter.litert.ranges import Range, activation_ranges
from converter.model import FloatModel
from converter.runtimes.litert import LitertEngine
from edge_contract.golden import signal_to_noise_db
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes

STATIC = Recipe("litert", "static", "minmax")


@pytest.fixture
def model() -> FloatModel:
    return normalise(model_bytes(), source="m")


@pytest.fixture
def frames() -> np.ndarray:
    values = np.random.default_rng(1).normal(size=(60, LENGTH, FEATURES))
    return values.astype(np.float32)


def test_int8_follows_float_and_keeps_float_io(
    model: FloatModel, frames: np.ndarray
) -> None:
    found = static_candidate(
        model, STATIC, activation_ranges(model, ArrayFrames(frames))
    )
    interpreter = Interpreter(model_content=found.content)
    ends = (interpreter.get_input_details()[0], interpreter.get_output_details()[0])

    assert [one["dtype"] for one in ends] == [np.float32, np.float32]
    assert found.output_step == 1 / 256
    assert found.float_operators == ()
    expected = LitertEngine(model.content).run(frames)
    assert signal_to_noise_db(expected, LitertEngine(found.content).run(frames)) > 35


def test_the_same_ranges_give_the_same_bytes(
    model: FloatModel, frames: np.ndarray
) -> None:
    ranges = activation_ranges(model, ArrayFrames(frames))
    assert (
        static_candidate(model, STATIC, ranges).content
        == static_candidate(model, STATIC, ranges).content
    )


def test_a_tensor_without_a_range_is_refused(model: FloatModel) -> None:
    with pytest.raises(ConvertQuantizeError, match="the quantizer refuses"):
        static_candidate(model, STATIC, {"input": Range(-1.0, 1.0)})
