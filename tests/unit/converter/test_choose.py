# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.choose import (
    Z95,
    Figures,
    Paired,
    choose,
    drop_upper_bound,
    samples_needed,
)

FLOAT = Figures(paired=None, latency_us=10.0, size_bytes=1000, ram_bytes=500)


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


def int8(pair: Paired, latency_us: float = 5.0, ram_bytes: int = 400) -> Figures:
    return Figures(pair, latency_us, 400, ram_bytes)


def run(one: Figures, objective: str = "latency") -> tuple[str, str]:
    choice = choose(
        {"float": FLOAT, "int8": one},
        objective=objective,  # type: ignore[arg-type]
        max_drop=0.01,
        float_id="float",
    )
    return choice.chosen, choice.reasons["int8"]


def test_a_proven_and_faster_variant_is_chosen() -> None:
    chosen, reason = run(int8(Paired(0, 0, 381)))
    assert (chosen, reason) == ("int8", "chosen: best latency within the budget")


def test_an_unproven_variant_is_not_and_says_what_it_takes() -> None:
    chosen, reason = run(int8(Paired(0, 0, 100)))
    assert chosen == "float"
    assert reason.endswith("needs 281 more samples than 100")


def test_a_slower_variant_is_never_chosen_for_latency() -> None:
    chosen, reason = run(int8(Paired(0, 0, 381), latency_us=10.0))
    assert (chosen, reason) == ("float", "not faster than float (10.0 μs)")
    assert run(int8(Paired(0, 0, 381), latency_us=10.0), "size")[0] == "int8"


def test_ram_is_compared_where_it_is_the_objective() -> None:
    assert run(int8(Paired(0, 0, 381), ram_bytes=501), "ram")[0] == "float"
    assert run(int8(Paired(0, 0, 381), ram_bytes=499), "ram")[0] == "int8"
