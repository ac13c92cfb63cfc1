# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import numpy as np
import pytest

from converter.candidate import Candidate, Recipe
from converter.data.frames import ArrayFrames
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes import kernel_sets
from converter.runtimes.litert import LitertEngine
from converter.vectors import MAX_INPUTS, Checked, check, pick_inputs
from edge_contract.golden import compare
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes

MODEL = normalise(model_bytes(), source="m")
FRAMES = np.random.default_rng(1).normal(size=(200, LENGTH, FEATURES)).astype("f4")
RAW = LitertEngine(MODEL.content).run(FRAMES)


def made(recipe: Recipe) -> Candidate:
    quantizer = LitertQuantizer(MODEL)
    quantizer.calibrate(ArrayFrames(FRAMES))
    return quantizer.make(recipe)


FLOAT = made(Recipe("litert", "float32"))
STATIC = made(Recipe("litert", "static", "minmax"))
DYNAMIC = made(Recipe("litert", "dynamic"))


def test_inputs_hold_edges_and_every_class() -> None:
    inputs = pick_inputs(ArrayFrames(FRAMES), RAW)
    assert len(inputs) == MAX_INPUTS
    assert not inputs[0].any()
    assert np.array_equal(inputs[1], FRAMES.min(axis=0))
    winners = LitertEngine(MODEL.content).run(inputs).argmax(axis=1)
    assert set(winners.tolist()) == {0, 1, 2}


def test_few_frames_give_fewer_inputs() -> None:
    inputs = pick_inputs(ArrayFrames(FRAMES[:5]), RAW[:5])
    assert len(inputs) == 3 + 5


def test_one_real_value_is_enough_to_pick_by() -> None:
    assert len(pick_inputs(ArrayFrames(FRAMES), RAW[:, :1])) == MAX_INPUTS


@pytest.mark.parametrize("one", [FLOAT, STATIC, DYNAMIC], ids=lambda one: one.id)
def test_every_kernel_set_passes_and_other_weights_do_not(one: Candidate) -> None:
    found = check(one, FRAMES[:20])
    assert found.refusal == ""
    assert tuple(each.kernels for each in found.checks) == kernel_sets("litert")
    other = normalise(model_bytes(bias=2.0), source="m")
    wrong = LitertEngine(other.content).run(FRAMES[:20])
    assert not compare(wrong, found.golden, found.tolerance).ok


def tolerance(of: Checked) -> tuple[str, float]:
    return of.tolerance.kind, of.tolerance.limit


def test_tolerances_follow_the_arithmetic() -> None:
    kind, limit = tolerance(check(STATIC, FRAMES[:20]))
    assert kind == "lsb"
    assert limit == pytest.approx(2 * STATIC.output_step, rel=2e-3)
    assert tolerance(check(FLOAT, FRAMES[:20])) == ("sqnr", 80.0)
    kind, limit = tolerance(check(DYNAMIC, FRAMES[:20]))
    assert kind == "sqnr"
    assert 15 <= limit <= 77
    assert limit % 3 == 0


def test_real_outputs_have_no_winner() -> None:
    found = check(STATIC, FRAMES[:20], compares_winners=False)
    assert found.tolerance.margin == math.inf


def test_kernels_that_differ_refuse_the_candidate() -> None:
    inputs = np.full((3, LENGTH, FEATURES), 3e38, dtype=np.float32)
    assert "kernels differ from the reference kernels" in check(FLOAT, inputs).refusal
    finer = replace(STATIC, output_step=STATIC.output_step / 1e6)
    refusal = check(finer, FRAMES[:20]).refusal
    assert refusal == "" or "kernels differ" in refusal
