# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.metrics.paired import (
    Z95,
    Paired,
    drop_upper_bound,
    samples_needed,
)


def restricted_score(pair: Paired, delta: float) -> float:
    """Tango's statistic with the nuisance share found by brute force."""
    b, c, n = pair.worse, pair.better, pair.samples
    share = np.linspace(1e-9, (1 - delta) / 2 - 1e-9, 400_001)
    rest = n - b - c
    likelihood = (
        b * np.log(share + delta)
        + c * np.log(share)
        + rest * np.log1p(-2 * share - delta)
    )
    best = float(share[likelihood.argmax()])
    return (b - c - n * delta) / math.sqrt(n * (2 * best + delta * (1 - delta)))


@pytest.mark.parametrize(
    "pair", [Paired(12, 2, 44), Paired(3, 5, 133), Paired(1, 1, 60)]
)
def test_the_bound_is_where_the_score_reaches_the_quantile(pair: Paired) -> None:
    bound = drop_upper_bound(pair)
    assert restricted_score(pair, bound) == pytest.approx(-Z95, abs=1e-3)


def test_no_difference_on_n_samples_is_bounded_by_z2_over_n_plus_z2() -> None:
    for samples in (16, 100, 5000):
        expected = Z95**2 / (samples + Z95**2)
        assert drop_upper_bound(Paired(0, 0, samples)) == pytest.approx(expected)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 5000))
def test_the_bound_lies_above_the_drop(worse: int, better: int, samples: int) -> None:
    pair = Paired(worse, better, samples)
    assert pair.drop < drop_upper_bound(pair) <= 1


def test_the_samples_needed_are_the_first_that_prove_it() -> None:
    needed = samples_needed(Paired(0, 0, 100), 0.01)
    assert needed == 381
    assert drop_upper_bound(Paired(0, 0, 381)) <= 0.01
    assert drop_upper_bound(Paired(0, 0, 380)) > 0.01


def test_no_number_of_samples_proves_a_drop_that_is_too_large() -> None:
    assert samples_needed(Paired(5, 0, 200), 0.01) is None
