# SPDX-License-Identifier: Apache-2.0
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.calibrate import Activations, Range, RangeTracker, snap_outward, track
from converter.data.frames import ArrayFrames
from converter.errors import ConvertQuantizeError

RANDOM = np.random.default_rng(1)


def tracked(values: np.ndarray) -> RangeTracker:
    tracker = RangeTracker()
    for part in np.array_split(values.astype(np.float32), 7):
        assert tracker.widen(part)
    for part in np.array_split(values.astype(np.float32), 7):
        tracker.count(part)
    return tracker


@given(st.floats(-1e30, 1e30).filter(lambda value: abs(value) > 1e-30))
def test_snapping_goes_outward_by_less_than_one_part_in_1024(value: float) -> None:
    above, below = snap_outward(value, up=True), snap_outward(value, up=False)
    assert below <= value <= above
    assert above - below <= abs(value) / 1024
    for one in (above, below):
        assert math.ldexp(math.frexp(one)[0], 11).is_integer()
        assert snap_outward(one, up=True) == snap_outward(one, up=False) == one


def test_minmax_covers_everything_and_percentiles_leave_the_tails_out() -> None:
    values = RANDOM.normal(size=200_000)
    values[0] = 60.0
    tracker = tracked(values)
    whole, most, more = (tracker.range(one) for one in ("minmax", "p99.99", "p99.9"))
    assert whole.low <= values.min()
    assert whole.high >= 60.0
    assert 3.3 < most.high < 4.6
    assert 2.9 < more.high < most.high
    assert -more.low == pytest.approx(more.high, rel=0.1)


def squared_error(values: np.ndarray, of: Range) -> float:
    step = (of.high - of.low) / 255
    rounded = np.rint((values.clip(of.low, of.high) - of.low) / step) * step + of.low
    return float(((rounded - values) ** 2).mean())


@pytest.mark.parametrize("tail", [5.0, 50.0])
def test_mse_has_the_least_error_of_all_methods(tail: float) -> None:
    values = RANDOM.laplace(size=50_000)
    values[:3] = tail
    tracker = tracked(values)
    errors = {
        one: squared_error(values, tracker.range(one))
        for one in ("minmax", "p99.99", "p99.9", "mse")
    }
    assert errors["mse"] <= min(errors.values()) * 1.05


def test_a_range_of_positive_values_starts_at_their_end_or_zero() -> None:
    tracker = tracked(np.abs(RANDOM.normal(size=1000)) + 1)
    assert tracker.range("minmax").low >= 0.99
    assert tracker.range("mse").low == 0.0
    assert tracker.range("p99.9").low == 0.0


def test_a_constant_keeps_its_value() -> None:
    tracker = tracked(np.full(10, 3.0))
    assert {tracker.range(one) for one in ("minmax", "mse", "p99.9")} == {
        Range(3.0, 3.0)
    }


@given(st.integers(0, 2**32 - 1))
def test_the_last_bits_of_an_activation_change_no_range(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=4000).astype(np.float32)
    nudged = np.nextafter(values, np.float32(0))
    first, second = tracked(values), tracked(nudged)
    assert first.range("minmax") == second.range("minmax")
    assert first.range("p99.99") == second.range("p99.99")


def doubled(block: np.ndarray) -> Iterator[Activations]:
    for frame in block:
        yield {"in": frame, "out": frame * np.float32(2)}


def test_every_activation_of_every_frame_is_tracked() -> None:
    frames = RANDOM.normal(size=(600, 4)).astype(np.float32)
    found = track(ArrayFrames(frames), doubled)
    backwards = track(ArrayFrames(frames[::-1].copy()), doubled)
    assert found["in"].high == frames.max()
    assert found["out"].low == frames.min() * 2
    for name in ("in", "out"):
        assert found[name].range("mse") == backwards[name].range("mse")


def test_an_activation_that_is_not_finite_is_named() -> None:
    frames = np.ones((300, 4), dtype=np.float32)
    frames[270, 2] = np.inf
    with pytest.raises(ConvertQuantizeError, match="frame 270: tensor 'in'"):
        track(ArrayFrames(frames), doubled)
