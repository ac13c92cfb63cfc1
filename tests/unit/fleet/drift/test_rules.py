# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.drift.accuracy import estimate_accuracy
from fleet.drift.fleetwide.alarm import find_alarms, lone_threshold
from fleet.drift.fleetwide.attribution import Candidate, attribute
from fleet.drift.fleetwide.evidence import Evidence, advance, clear, shift_of
from fleet.drift.fleetwide.materiality import measure_distance
from fleet.drift.fleetwide.parameters import FleetwideParameters
from fleet.drift.fleetwide.season import (
    SamePhase,
    enter,
    half_ranges,
    has_season,
    predict,
    write,
)
from fleet.drift.fleetwide.shape import make_basis, own_shares, shape_scores
from fleet.drift.fleetwide.yardsticks import Measure
from fleet.drift.label_shift import estimate_label_shift
from fleet.drift.labelled import ErrorEvidence
from fleet.drift.performance import Known, find_losses, missing_inputs

PARAMETERS = FleetwideParameters()
SCORES = np.linspace(-1.8, 1.8, 16)


def plain_measure(columns: int, phi: float = 0.0) -> Measure:
    ones = np.ones((3, 1, columns), dtype=np.float32)
    return Measure(ones, phi * ones, 1e9 * ones, ones)


def test_evidence_of_a_lasting_shift_names_its_start_and_size() -> None:
    evidence, measure = Evidence.start(3, 1, 1), plain_measure(1)
    allowance = np.array([0.1], dtype=np.float32)
    every = np.ones((3, 1, 1), dtype=bool)
    for slot in range(100, 130):
        value = np.full((3, 1, 1), 2.5 if slot >= 110 else -0.5, dtype=np.float32)
        advance(evidence, value, measure, allowance, every, slot)

    assert evidence.began[0, 0, 0, 0] == 110
    assert shift_of(evidence, measure, 0.1, (0, 0, 0, 0), 20) == pytest.approx(2.5)


def test_cleared_evidence_is_gone_for_the_named_streams_only() -> None:
    evidence = Evidence.start(3, 2, 3)
    evidence.log[:] = 5

    clear(evidence, np.array([1]), np.array([0, 2]))

    assert evidence.log[0, 0].tolist() == [[5, 5, 5], [0, 5, 0]]


def test_white_noise_gives_no_alarm_in_a_million_stream_windows() -> None:
    random = np.random.default_rng(11)
    columns = 2000
    evidence, measure = Evidence.start(3, 1, columns), plain_measure(columns)
    allowance = np.full(columns, 0.1, dtype=np.float32)
    every = np.ones((3, 1, columns), dtype=bool)
    pool = np.ones((1, columns), dtype=bool)
    alarms = 0
    for slot in range(500):
        noise = np.clip(random.normal(size=(3, 1, columns)), -4, 4)
        advance(evidence, noise.astype(np.float32), measure, allowance, every, slot)
        alarms += int(find_alarms(evidence.totals(), pool, PARAMETERS).sum())

    assert alarms == 0


def test_a_lone_stream_needs_the_budget_of_the_whole_fleet() -> None:
    assert lone_threshold(100, PARAMETERS) == 4e6
    assert lone_threshold(200_000, PARAMETERS) == 200_000 * 2016 / 5


def test_streams_outside_the_pool_neither_alarm_nor_count() -> None:
    e_values = np.array([1e9, 1e9, 1e9, 1.0], dtype=np.float32)
    pool = np.array([False, True, False, True])

    assert find_alarms(e_values, pool, PARAMETERS).tolist() == [0, 1, 0, 0]


@given(
    counts=st.lists(st.integers(0, 500), min_size=16, max_size=16).filter(any),
    baseline=st.lists(st.integers(0, 500), min_size=16, max_size=16).filter(any),
)
def test_distances_are_finite_and_zero_only_between_equals(
    counts: list[int], baseline: list[int]
) -> None:
    p, q = np.array(counts, float), np.array(baseline, float)

    far, same = measure_distance(p, q, SCORES), measure_distance(p, p, SCORES)

    assert 0 <= far.jensen_shannon <= 1 + 1e-12
    assert far.wasserstein >= 0
    assert np.isfinite(far.psi)
    assert same.jensen_shannon == pytest.approx(0, abs=1e-7)
    assert same.wasserstein == pytest.approx(0, abs=1e-12)


def test_nothing_counted_is_no_distance_but_a_shift_by_moments_is() -> None:
    distance = measure_distance(np.zeros(16), np.ones(16), SCORES, -0.4)

    assert (distance.jensen_shannon, distance.wasserstein) == (0.0, 0.4)
    assert distance.passes(0.1)


def test_the_shape_remainder_is_a_normal_score_and_blind_to_small_shifts() -> None:
    random = np.random.default_rng(12)
    shares = np.full((1, 16, 4000), 1 / 16, dtype=np.float32)
    basis = make_basis(shares)
    rows = np.full((1, 4000), 300, dtype=np.float32)
    width = np.array([16])

    def score(p: np.ndarray) -> np.ndarray:
        counts = random.multinomial(300, p, 4000).T[np.newaxis].astype(np.float32)
        scores: np.ndarray = shape_scores(counts, rows, basis, width)[0]
        return scores

    even = score(np.full(16, 1 / 16))
    tilted = np.exp(0.3 * SCORES)
    two_humps = np.where(np.abs(SCORES) > 1, 1.8, 0.7)
    stuck = np.full(16, 0.95 / 16)
    stuck[9] += 0.05
    assert abs(float(even.mean())) < 0.1
    assert abs(float(even.std()) - 1) < 0.1
    assert float(score(tilted / tilted.sum()).mean()) < 0.4
    assert float(score(stuck / stuck.sum()).mean()) > 1.0
    assert float(score(two_humps / two_humps.sum()).mean()) > 0.5


def test_few_bins_leave_no_shape() -> None:
    reference = np.zeros((1, 16), dtype=np.float32)
    reference[0, :4] = 0.25
    shares = own_shares(np.zeros((1, 16, 2), dtype=np.float32), reference)
    counts = np.zeros((1, 16, 2), dtype=np.float32)
    counts[0, 0] = 300

    scores = shape_scores(
        counts, np.full((1, 2), 300.0), make_basis(shares), np.array([4])
    )

    assert scores.tolist() == [[0.0, 0.0]]


def test_a_prediction_comes_from_earlier_days_only() -> None:
    memory = SamePhase.start(1, 1)
    for slot in range(288 * 3):
        enter(memory, slot)
        predicted = float(predict(memory, slot)[0, 0])
        if slot < 288 - 6:
            assert np.isnan(predicted)
        if slot >= 288 and 6 <= slot % 288 < 282:
            assert predicted == pytest.approx(1.0 if slot < 576 else 1.5)
        write(memory, slot, np.full((1, 1), 1.0 + slot // 288, dtype=np.float32))


def test_a_season_needs_two_days_that_agree() -> None:
    sized = {}
    for name, second in (("same", 1.0), ("turned", -1.0)):
        memory = SamePhase.start(1, 1)
        for slot in range(576):
            enter(memory, slot)
            sign = 1.0 if slot < 288 else second
            value = sign * 0.2 * np.sin(2 * np.pi * slot / 288)
            write(memory, slot, np.full((1, 1), value, dtype=np.float32))
        sized[name] = half_ranges(memory, 575, 0)

    assert has_season(*sized["same"], 0.1).tolist() == [True]
    assert has_season(*sized["turned"], 0.1).tolist() == [False]
    assert float(sized["same"][0][0]) == pytest.approx(0.2, abs=0.01)


def test_a_cohort_of_most_of_the_fleet_is_named_not_the_world() -> None:
    random = np.random.default_rng(13)
    deviation = random.normal(0, 0.05, 100)
    deviation[:60] += 0.4
    candidates = [
        Candidate("world", "world", np.arange(100), 2),
        Candidate("cohort", "line=a", np.arange(60), 1),
        Candidate("cohort", "line=b", np.arange(60, 100), 1),
    ]

    causes = attribute(deviation, candidates, 0.05)

    assert [one.candidate.name for one in causes] == ["line=a"]
    assert causes[0].effect == pytest.approx(0.4, abs=0.03)


def test_two_causes_are_both_named_the_larger_first() -> None:
    random = np.random.default_rng(14)
    deviation = random.normal(0, 0.05, 200)
    deviation[:80] += 0.5
    deviation[::4] -= 0.3
    candidates = [
        Candidate("world", "world", np.arange(200), 2),
        Candidate("cohort", "hw=a", np.arange(80), 1),
        Candidate("cohort", "fw=1", np.arange(0, 200, 4), 1),
    ]

    causes = attribute(deviation, candidates, 0.05)

    assert [one.candidate.name for one in causes] == ["hw=a", "fw=1"]


def test_a_deployment_to_all_is_preferred_to_the_world() -> None:
    random = np.random.default_rng(15)
    deviation = random.normal(0.3, 0.05, 50)
    world = Candidate("world", "world", np.arange(50), 2)
    deploy = Candidate("deploy", "release=2", np.arange(50), 0)

    assert attribute(deviation, [world, deploy], 0.05)[0].candidate.kind == "deploy"
    assert attribute(deviation, [world], 0.05)[0].candidate.kind == "world"


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), max_size=8))
def test_labels_count_alike_however_they_are_cut(parts: list[tuple[int, int]]) -> None:
    parts = [(labels, min(errors, labels)) for labels, errors in parts]
    whole = ErrorEvidence(0.2).add(
        sum(one[0] for one in parts), sum(one[1] for one in parts)
    )
    step = ErrorEvidence(0.2)
    for labels, errors in parts:
        step = step.add(labels, errors)

    assert step.e_value == pytest.approx(whole.e_value, rel=1e-9)


def test_errors_at_the_promised_rate_seldom_look_like_a_loss() -> None:
    random = np.random.default_rng(16)
    passed = 0
    for _ in range(300):
        evidence, best = ErrorEvidence(0.1), 0.0
        for errors in random.binomial(10, 0.1, 100):
            evidence = evidence.add(10, int(errors))
            best = max(best, evidence.e_value)
        passed += best >= 20

    assert passed <= 15  # Ville: at most 1 in 20 passes 20


def test_accuracy_needs_labels_and_rows() -> None:
    counts = np.full(16, 100)

    assert estimate_accuracy(counts, counts, np.zeros(16, np.int64)) is None
    assert estimate_accuracy(counts // 100, counts, counts // 2) is None


def test_accuracy_falls_with_confidence_and_both_estimates_agree() -> None:
    reference = np.full(16, 100)
    correct = np.linspace(40, 99, 16).astype(np.int64)
    low = np.zeros(16, np.int64)
    low[:8] = 500

    same = estimate_accuracy(reference, reference, correct)
    fallen = estimate_accuracy(low, reference, correct)

    assert same is not None
    assert fallen is not None
    assert same.loss == pytest.approx(0, abs=1e-3)
    assert not same.is_material
    assert fallen.cbpe == pytest.approx(correct[:8].sum() / 800, abs=0.01)
    assert fallen.is_material
    assert not same.is_doubtful


def test_kinds_of_loss_need_their_inputs_and_say_which_are_missing() -> None:
    shadow = ErrorEvidence(0.01).add(2000, 200)
    feedback = ErrorEvidence(0.1).add(500, 200)
    confusion = np.array([[90, 10], [10, 90]])
    shift = estimate_label_shift(np.array([820, 180]), confusion)

    losses = find_losses(Known(shadow=shadow, feedback=feedback, shift=shift))

    assert [one.kind for one in losses] == ["quantization", "concept", "label_shift"]
    assert find_losses(Known()) == []
    assert len(missing_inputs(Known())) == 4
    assert missing_inputs(Known(shadow=shadow, feedback=feedback, shift=shift)) == [
        "estimated accuracy: the reference has no labels"
    ]


def test_a_loss_that_confidence_shows_is_no_concept_drift() -> None:
    reference = np.full(16, 100)
    correct = np.linspace(40, 99, 16).astype(np.int64)
    low = np.zeros(16, np.int64)
    low[:4] = 1000
    accuracy = estimate_accuracy(low, reference, correct)
    feedback = ErrorEvidence(0.1).add(500, 200)

    assert find_losses(Known(accuracy=accuracy, feedback=feedback)) == []
    assert [one.kind for one in find_losses(Known(feedback=feedback))] == ["concept"]


def test_a_mix_of_classes_that_explains_nothing_is_no_label_shift() -> None:
    confusion = np.array([[90, 10], [10, 90]])
    shift = estimate_label_shift(np.array([900, 100]), confusion)
    assert shift is not None
    odd = replace(shift, unexplained=0.2)

    assert find_losses(Known(shift=odd)) == []
    assert estimate_label_shift(np.array([900, 100]), np.full((2, 2), 50)) is None
