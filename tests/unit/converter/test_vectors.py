# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from converter.candidate import Candidate, Recipe
from converter.data.frames import ArrayFrames
from converter.errors import ConvertGoldenError
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes.litert import Kernels, LitertEngine
from converter.vectors import MAX_INPUTS, make_vectors, pick_inputs, tolerance
from edge_contract.golden import compare
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes

MODEL = normalise(model_bytes(), source="m")
FRAMES = np.random.default_rng(1).normal(size=(200, LENGTH, FEATURES)).astype("f4")


@pytest.fixture(scope="module")
def candidates() -> tuple[Candidate, Candidate]:
    quantizer = LitertQuantizer(MODEL)
    quantizer.calibrate(ArrayFrames(FRAMES))
    base, static = (quantizer.make(one) for one in quantizer.recipes())
    return base, static


def test_inputs_hold_edges_and_every_class() -> None:
    probabilities = LitertEngine(MODEL.content).run(FRAMES)
    inputs = pick_inputs(FRAMES, probabilities)
    assert len(inputs) == MAX_INPUTS
    assert not inputs[0].any()
    assert np.array_equal(inputs[1], FRAMES.min(axis=0))
    assert set(LitertEngine(MODEL.content).run(inputs).argmax(axis=1).tolist()) == {
        0,
        1,
        2,
    }


def test_few_frames_give_fewer_inputs() -> None:
    frames = FRAMES[:5]
    inputs = pick_inputs(frames, LitertEngine(MODEL.content).run(frames))
    assert len(inputs) == 3 + 5


def test_every_kernel_set_passes_and_other_weights_do_not(
    candidates: tuple[Candidate, Candidate],
) -> None:
    vectors, checks, refused = make_vectors(candidates, FRAMES[:20])
    assert refused == {}
    other = normalise(model_bytes(bias=2.0), source="m")
    wrong = LitertEngine(other.content).run(FRAMES[:20])
    for one in candidates:
        assert [check.kernels for check in checks[one.id]] == [k.value for k in Kernels]
        assert all(check.result.ok for check in checks[one.id])
        golden, allowed = vectors.outputs[one.id], vectors.tolerances[one.id]
        assert not compare(wrong, golden, allowed).ok


def test_int8_may_be_two_steps_off_or_twice_what_kernels_differ(
    candidates: tuple[Candidate, Candidate],
) -> None:
    step = candidates[1].output_step
    assert tolerance(candidates[1], 0.0).limit == pytest.approx(2 * step, rel=2e-3)
    assert tolerance(candidates[1], 3 * step).limit == pytest.approx(8 * step, rel=2e-3)
    assert tolerance(candidates[1], 1.0).limit == pytest.approx(32 * step, rel=2e-3)
    assert tolerance(candidates[0], 1.0).kind == "sqnr"


def test_a_model_whose_outputs_are_not_finite_is_refused() -> None:
    inputs = np.full((3, LENGTH, FEATURES), 3e38, dtype=np.float32)
    with pytest.raises(ConvertGoldenError, match="kernels differ"):
        make_vectors([Candidate(Recipe("litert", "float32"), MODEL.content)], inputs)
