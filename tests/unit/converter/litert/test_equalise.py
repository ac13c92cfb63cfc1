# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.candidate import Recipe
from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError
from converter.litert.equalise import best_scales, equalised, octaves
from converter.litert.normalise import normalise
from converter.litert.quantizer import LitertQuantizer
from converter.runtimes import open_engine
from edge_contract.golden import signal_to_noise_db
from tests.support.convert_inputs import FEATURES, LENGTH, model_bytes
from tests.support.tflite_models import stack_model

VALUES = np.random.default_rng(2).normal(size=(80, 12)).astype("f4")


def float_file(content: bytes) -> bytes:
    return normalise(content, source="m").content


def uneven_model() -> bytes:
    """Return a stack whose first layer's channels differ by a factor of 4,000."""
    return stack_model((12, 24, 16, 5), spread=12.0)


def test_an_equalised_model_computes_the_same_bits() -> None:
    content = float_file(uneven_model())
    found = equalised(content, ArrayFrames(VALUES))
    assert found is not None
    assert found != content
    expected = open_engine("litert", content).run(VALUES)
    np.testing.assert_array_equal(open_engine("litert", found).run(VALUES), expected)


def test_uneven_channels_keep_their_resolution_in_int8() -> None:
    quantizer = LitertQuantizer(normalise(uneven_model(), source="m"))
    quantizer.calibrate(ArrayFrames(VALUES))
    expected = open_engine("litert", quantizer.model.content).run(VALUES)
    quality = []
    for is_equalised in (False, True):
        recipe = Recipe("litert", "static", "minmax", is_equalised=is_equalised)
        made = quantizer.make(recipe)
        outputs = open_engine("litert", made.content).run(VALUES)
        quality.append(signal_to_noise_db(expected, outputs))
    assert quality[1] > quality[0] + 3


def test_one_layer_has_nothing_to_even_out() -> None:
    frames = np.zeros((3, LENGTH, FEATURES), "f4")
    assert equalised(float_file(model_bytes()), ArrayFrames(frames)) is None
    quantizer = LitertQuantizer(normalise(model_bytes(), source="m"))
    quantizer.calibrate(ArrayFrames(frames + 1))
    assert not any(one.is_equalised for one in quantizer.recipes())
    with pytest.raises(ConvertQuantizeError, match="no layers of this model"):
        quantizer.make(Recipe("litert", "static", "minmax", is_equalised=True))


@given(
    st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=40),
    st.floats(0, 1),
)
def test_scales_are_powers_of_two_that_never_pass_the_largest_peak(
    peaks: list[float], share: float
) -> None:
    given_peaks = np.array(peaks, "f8")
    scales = octaves(given_peaks, share)
    assert (np.frexp(scales)[0] == 0.5).all()
    assert (scales >= 1).all()
    assert (scales <= 2**10).all()
    largest = given_peaks.max()
    assert (given_peaks * scales <= largest * 2**0.5 * (1 + 1e-12)).all()


def test_channels_move_as_far_as_the_next_weights_allow() -> None:
    peaks, powers = np.array([8.0, 0.125]), np.array([16.0, 0.004])
    # A filter a channel: its own scale follows, so moving costs nothing.
    alone = best_scales(peaks, powers, np.ones((1, 3, 3, 2)), is_depthwise=True)
    assert alone.tolist() == [1.0, 64.0]
    # Filters that see both: the small channel's weights would lose their resolution.
    both = best_scales(peaks, powers, np.array([[1.0, 1.0]]), is_depthwise=False)
    assert 1.0 < both[1] < 64.0
    # Weights of the small channel that make up for it: all the way.
    large = best_scales(peaks, powers, np.array([[1.0, 64.0]]), is_depthwise=False)
    assert large.tolist() == [1.0, 64.0]


def test_a_dead_tensor_stays_as_it_is() -> None:
    zeros = np.zeros(3)
    found = best_scales(zeros, zeros, np.ones((2, 3)), is_depthwise=False)
    assert found.tolist() == [1.0, 1.0, 1.0]
