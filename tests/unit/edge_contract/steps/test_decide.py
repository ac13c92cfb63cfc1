# SPDX-License-Identifier: Apache-2.0
"""Steps after observation: smoothing, threshold, top, and where they may stand."""

import numpy as np
import pytest

from edge_contract.errors import StepError
from edge_contract.steps import (
    Decider,
    Decision,
    apply_post,
    check_post,
    decision_rule,
)

LABELS = ("walk", "run", "row")
SOFTMAX = {"step": "softmax"}
MEAN = {"step": "smoothing", "method": "mean", "results": "3"}
MAJORITY = {"step": "smoothing", "method": "majority", "results": "3"}
THRESHOLD = {"step": "threshold", "at": "0.5"}
TOP = {"step": "top", "count": "2"}


def decide(
    steps: tuple[dict[str, str], ...],
    outputs: list[list[float]],
    labels: tuple[str, ...] = LABELS,
) -> list[Decision]:
    decider = Decider(decision_rule(steps), labels)
    return [decider.decide(np.array(one, dtype=np.float32)) for one in outputs]


def test_without_steps_the_winner_is_named() -> None:
    (found,) = decide((SOFTMAX,), [[0.25, 0.5, 0.25]])

    assert found.ranked == (("run", 0.5),)
    assert found.output.tolist() == [0.25, 0.5, 0.25]


def test_the_mean_is_over_the_last_results() -> None:
    outputs = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    found = decide((MEAN,), outputs)

    assert [one.output.tolist() for one in found] == [
        [1.0, 0.0, 0.0],
        [0.5, 0.5, 0.0],
        pytest.approx([1 / 3, 2 / 3, 0.0]),
        [0.0, 1.0, 0.0],
    ]
    assert [one.ranked[0][0] for one in found] == ["walk", "walk", "run", "run"]


def test_the_majority_is_of_winners_and_its_score_their_share() -> None:
    outputs = [[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.4, 0.6, 0.0]]
    found = decide((MAJORITY,), outputs)

    assert found[2].output.tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert found[2].ranked == (("run", found[2].output[1]),)


def test_below_the_threshold_nothing_is_named() -> None:
    found = decide((THRESHOLD,), [[0.4, 0.4, 0.2], [0.5, 0.3, 0.2]])

    assert [one.ranked for one in found] == [(), (("walk", 0.5),)]


def test_the_top_is_ranked_and_equal_scores_keep_their_order() -> None:
    (found,) = decide((TOP,), [[0.25, 0.5, 0.25]])
    assert found.ranked == (("run", 0.5), ("walk", 0.25))
    (found,) = decide((THRESHOLD, TOP), [[0.25, 0.5, 0.25]])
    assert found.ranked == (("run", 0.5),)


def test_real_values_are_named_by_number_under_a_threshold_only() -> None:
    (found,) = decide((), [[3.0]], labels=())
    assert found.ranked == ()
    found, below = decide((THRESHOLD,), [[3.0], [0.25]], labels=())
    assert (found.ranked, below.ranked) == ((("0", 3.0),), ())


def test_what_is_observed_does_not_know_of_decisions() -> None:
    outputs = np.array([[1.0, 3.0]], dtype=np.float32)

    np.testing.assert_array_equal(
        apply_post((SOFTMAX, MEAN, THRESHOLD), outputs), apply_post((SOFTMAX,), outputs)
    )
    check_post((SOFTMAX, MEAN, THRESHOLD, TOP))


@pytest.mark.parametrize(
    "steps",
    [
        (THRESHOLD, MEAN),
        (MEAN, SOFTMAX),
        (MEAN, MAJORITY),
        ({"step": "threshold"},),
        ({"step": "threshold", "at": "nan"},),
        ({"step": "smoothing", "method": "median", "results": "3"},),
        ({"step": "smoothing", "method": "mean", "results": "1025"},),
        ({"step": "smoothing", "method": "mean", "results": "0"},),
        ({"step": "top", "count": "1.5"},),
        ({},),
    ],
)
def test_steps_out_of_place_or_wrong_are_refused(
    steps: tuple[dict[str, str], ...],
) -> None:
    with pytest.raises(StepError):
        check_post(steps)
