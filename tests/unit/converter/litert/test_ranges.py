# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError
from converter.litert.normalise import normalise
from converter.litert.ranges import activation_ranges, snap_outward
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes


@given(st.floats(-1e30, 1e30).filter(lambda value: abs(value) > 1e-30))
def test_snapping_goes_outward_by_less_than_one_part_in_1024(value: float) -> None:
    above, below = snap_outward(value, up=True), snap_outward(value, up=False)
    assert below <= value <= above
    assert above - below <= abs(value) / 1024
    for one in (above, below):
        assert math.ldexp(math.frexp(one)[0], 11).is_integer()
        assert snap_outward(one, up=True) == snap_outward(one, up=False) == one


def test_ranges_are_those_of_the_frames_and_cover_every_activation() -> None:
    model = normalise(model_bytes(bias=0.0), source="m")
    frames = np.random.default_rng(1).normal(size=(30, LENGTH, FEATURES))
    inputs = frames.astype(np.float32)
    ranges = activation_ranges(model, ArrayFrames(inputs))
    scores = inputs.mean(axis=1) * 4

    assert set(ranges) == {"input", "scores", "probabilities"}
    assert ranges["input"].low == snap_outward(float(inputs.min()), up=False)
    assert ranges["input"].high == snap_outward(float(inputs.max()), up=True)
    assert ranges["scores"].high == pytest.approx(scores.max(), rel=1e-3)
    assert ranges["scores"].high >= scores.max()


def test_the_order_of_frames_does_not_matter() -> None:
    model = normalise(model_bytes(), source="m")
    frames = np.random.default_rng(1).normal(size=(30, LENGTH, FEATURES))
    inputs = frames.astype(np.float32)
    backwards = activation_ranges(model, ArrayFrames(inputs[::-1].copy()))
    assert activation_ranges(model, ArrayFrames(inputs)) == backwards


def test_an_activation_that_is_not_finite_is_named() -> None:
    model = normalise(model_bytes(), source="m")
    inputs = np.full((2, LENGTH, FEATURES), np.inf, dtype=np.float32)
    with pytest.raises(ConvertQuantizeError, match="frame 0: tensor 'input'"):
        activation_ranges(model, ArrayFrames(inputs))
