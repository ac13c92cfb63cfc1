# SPDX-License-Identifier: Apache-2.0
"""Gates: what counts, what is enough, and what holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollout.bounds import (
    Sample,
    Share,
    needed_devices,
    wilson_lower,
    wilson_upper,
)
from fleet.rollout.gate import (
    Decision,
    Evidence,
    Ground,
    Moment,
    Tally,
    Verdict,
    judge,
    tally_observations,
)
from fleet.rollout.health import Cohort, Cohorts, Health, judge_cohorts
from fleet.rollout.model import DeviceOutcome, Observation, Policy

POLICY = Policy(failure_percent=5, deadline_seconds=60, soak_seconds=10)
SECOND = 1_000_000
# Long after the start and after the last success, but before the deadline.
NOW = 50 * SECOND
LATE = 70 * SECOND  # after the deadline, and after the soak that follows it


def ask(
    tally: Tally,
    *,
    now_us: int = NOW,
    accepted: str | None = None,
    promoted: str | None = None,
    health: Health | None = None,
) -> Verdict:
    moment = Moment(0, now_us, accepted, promoted)
    return judge(Evidence(tally, health), POLICY, moment)


def outcome(verdict: Verdict) -> tuple[Decision, Ground]:
    return verdict.decision, verdict.ground


@pytest.mark.parametrize(
    ("tally", "accepted", "expected"),
    [
        (Tally(succeeded=52), None, (Decision.ADVANCE, Ground.EVIDENCE)),
        (Tally(succeeded=51), None, (Decision.HOLD, Ground.INSUFFICIENT)),
        (Tally(succeeded=1), None, (Decision.HOLD, Ground.INSUFFICIENT)),
        (Tally(succeeded=1), "six watches", (Decision.ADVANCE, Ground.ACCEPTED)),
        (Tally(succeeded=5, failed=1), "six", (Decision.HOLD, Ground.FAILURES)),
        (Tally(succeeded=5, late=1), "six", (Decision.HOLD, Ground.FAILURES)),
        (Tally(succeeded=99, failed=1), None, (Decision.ADVANCE, Ground.EVIDENCE)),
        (Tally(succeeded=60, failed=4), None, (Decision.HOLD, Ground.FAILURES)),
        (Tally(in_progress=1), "six", (Decision.WAIT, Ground.IN_PROGRESS)),
        (Tally(succeeded=60, in_progress=1), None, (Decision.WAIT, Ground.IN_PROGRESS)),
        (Tally(succeeded=60, unknown=1), None, (Decision.WAIT, Ground.NOT_STARTED)),
        (Tally(unknown=3), "six", (Decision.WAIT, Ground.NOT_STARTED)),
        (Tally(already=3), None, (Decision.ADVANCE, Ground.NOTHING_TO_DO)),
        (Tally(), "six", (Decision.WAIT, Ground.NOT_STARTED)),
        # One failure at the beginning of a large phase is no proof; ten are.
        (
            Tally(succeeded=60, failed=1, unknown=1000),
            None,
            (Decision.WAIT, Ground.NOT_STARTED),
        ),
        (
            Tally(succeeded=80, failed=12, unknown=1000),
            None,
            (Decision.HOLD, Ground.FAILURES),
        ),
    ],
)
def test_decisions(
    tally: Tally, accepted: str | None, expected: tuple[Decision, Ground]
) -> None:
    assert outcome(ask(tally, accepted=accepted)) == expected


def test_silent_devices_do_not_block_for_ever_and_prove_nothing() -> None:
    silent = Tally(succeeded=60, unknown=5)
    none_at_all = Tally(unknown=5)
    late = 61 * SECOND

    assert ask(silent, now_us=NOW).decision is Decision.WAIT
    assert outcome(ask(silent, now_us=late)) == (Decision.ADVANCE, Ground.EVIDENCE)
    assert ask(none_at_all, now_us=late, accepted="six").decision is Decision.WAIT


def test_a_phase_is_watched_after_its_last_success() -> None:
    tally = Tally(succeeded=60, last_success_us=45 * SECOND)

    assert outcome(ask(tally, now_us=54 * SECOND)) == (Decision.WAIT, Ground.SOAKING)
    assert ask(tally, now_us=55 * SECOND).decision is Decision.ADVANCE


def test_stragglers_of_a_large_fleet_hold_nothing_up() -> None:
    few = Tally(succeeded=900, in_progress=5, unknown=80, last_success_us=LATE)
    many = Tally(succeeded=900, in_progress=80, last_success_us=LATE)

    # One who comes back after the deadline neither blocks nor begins the soak anew.
    assert outcome(ask(few, now_us=LATE)) == (Decision.ADVANCE, Ground.EVIDENCE)
    assert outcome(ask(many, now_us=LATE)) == (Decision.WAIT, Ground.IN_PROGRESS)


def test_outcomes_are_tallied_and_a_slow_device_is_late() -> None:
    observations = [
        Observation(DeviceOutcome.SUCCEEDED, 7),
        Observation(DeviceOutcome.SUCCEEDED, 9),
        Observation(DeviceOutcome.FAILED, 1, "golden"),
        Observation(DeviceOutcome.STARTED, 0),
        Observation(DeviceOutcome.STARTED, 1),
        Observation(DeviceOutcome.UNKNOWN),
        Observation(DeviceOutcome.ALREADY),
    ]

    named = [(f"d{number}", one) for number, one in enumerate(observations)]
    tally = tally_observations(named, POLICY, now_us=60 * SECOND)

    assert tally == Tally(
        succeeded=2,
        failed=1,
        late=1,
        in_progress=1,
        unknown=1,
        already=1,
        last_success_us=9,
    )
    assert (tally.judged, tally.failures) == (4, 2)


def test_verdict_says_in_words_and_figures_what_was_accepted() -> None:
    document = ask(Tally(succeeded=1), accepted="demo fleet of six").to_json()

    assert document["ground"] == "accepted_insufficient_evidence"
    assert document["words"] == (
        "insufficient evidence: 1 devices without a failure, but only 52 could show a"
        " failure rate below 5 %; accepted: demo fleet of six"
    )
    assert document["failure_upper_bound"] == "0.7301"
    assert document["needed"] == 52


STEADY = Cohort(60, Sample(60, 0.0, 4.0), Sample(60, 0.0, 0.01), Share(0, 900))
UNSURE = Cohort(60, Sample(60, -9.0, 4.0), Sample(60, 0.0, 0.01), Share(0, 900))
FEW = Cohort(3, Sample(3, 0.0, 4.0), Sample(3, 0.0, 0.01), Share(0, 3))
GOOD = judge_cohorts(Cohorts(STEADY, STEADY), Policy())
WORSE = judge_cohorts(Cohorts(UNSURE, STEADY), Policy())
OPEN = judge_cohorts(Cohorts(FEW, STEADY), Policy())


@pytest.mark.parametrize(
    ("tally", "health", "accepted", "now_us", "expected"),
    [
        (Tally(succeeded=60), GOOD, None, NOW, (Decision.ADVANCE, Ground.EVIDENCE)),
        (Tally(succeeded=60), WORSE, "so", NOW, (Decision.HALT, Ground.WORSE)),
        (Tally(succeeded=60), OPEN, None, NOW, (Decision.WAIT, Ground.GATHERING)),
        (Tally(succeeded=60), OPEN, None, LATE, (Decision.HOLD, Ground.INSUFFICIENT)),
        (Tally(succeeded=60), OPEN, "so", NOW, (Decision.ADVANCE, Ground.ACCEPTED)),
        # Windows do not help where devices are missing.
        (Tally(succeeded=9), GOOD, None, NOW, (Decision.HOLD, Ground.INSUFFICIENT)),
        (Tally(succeeded=60, failed=9), GOOD, "so", NOW,
         (Decision.HOLD, Ground.FAILURES)),
        # Worse is worse, however far the phase is.
        (Tally(succeeded=60, in_progress=9), WORSE, None, NOW,
         (Decision.HALT, Ground.WORSE)),
        (Tally(succeeded=99, failed=1, breach="d1: nan"), GOOD, "so", NOW,
         (Decision.HALT, Ground.INVARIANT)),
    ],
)  # fmt: skip
def test_a_control_cohort_decides_as_well(
    tally: Tally,
    health: Health,
    accepted: str | None,
    now_us: int,
    expected: tuple[Decision, Ground],
) -> None:
    found = ask(tally, now_us=now_us, accepted=accepted, health=health)

    assert outcome(found) == expected


def test_a_promotion_passes_a_hold_and_never_a_halt() -> None:
    failing = Tally(succeeded=5, failed=5)
    broken = Tally(succeeded=5, failed=1, breach="d1: latency")

    assert outcome(ask(failing)) == (Decision.HOLD, Ground.FAILURES)
    assert outcome(ask(failing, promoted="known bad batch (user:ada)")) == (
        Decision.ADVANCE,
        Ground.PROMOTED,
    )
    assert ask(broken, promoted="hurry").decision is Decision.HALT


def test_a_phase_has_its_least_sample() -> None:
    policy = Policy(sample=100, deadline_seconds=60)
    verdict = judge(Evidence(Tally(succeeded=60)), policy, Moment(0, NOW))

    assert outcome(verdict) == (Decision.HOLD, Ground.INSUFFICIENT)
    assert verdict.words == "insufficient evidence: 60 devices, but 100 were asked for"


def test_an_invariant_counts_until_it_is_forgiven() -> None:
    broken = [("d1", Observation(DeviceOutcome.FAILED, 9, "trial", "confidence"))]

    assert tally_observations(broken, POLICY, NOW).breach == "d1: confidence"
    assert tally_observations(broken, POLICY, NOW, forgiven_us=9).breach == ""


def test_the_figures_of_both_cohorts_are_kept_with_the_decision() -> None:
    health = ask(Tally(succeeded=60), health=WORSE).to_json()["health"]
    found = {one["figure"]: one for one in health["comparisons"]}

    assert found["confidence"]["standing"] == "worse"
    assert found["confidence"]["worse_by"] == "9.0000"
    assert (found["confidence"]["treated"], found["confidence"]["control"]) == (60, 60)
    assert found["latency"]["standing"] == "not_worse"
    assert "confidence is worse by more than tolerated" in health["words"]


@given(st.integers(1, 50))
def test_needed_devices_is_the_smallest_number_that_passes(percent: int) -> None:
    needed = needed_devices(percent / 100)

    assert wilson_upper(0, needed) < percent / 100
    assert wilson_upper(0, needed - 1) >= percent / 100


@given(st.integers(1, 5000), st.data())
def test_bounds_enclose_the_rate_and_grow_with_failures(
    trials: int, data: st.DataObject
) -> None:
    failures = data.draw(st.integers(0, trials))

    lower, upper = wilson_lower(failures, trials), wilson_upper(failures, trials)

    assert 0.0 <= lower <= failures / trials + 1e-12
    assert failures / trials - 1e-12 <= upper <= 1.0
    if failures < trials:
        assert wilson_upper(failures + 1, trials) >= upper


@given(
    st.builds(
        Tally,
        succeeded=st.integers(0, 300),
        failed=st.integers(0, 30),
        late=st.integers(0, 30),
        in_progress=st.integers(0, 30),
        unknown=st.integers(0, 300),
        already=st.integers(0, 30),
    ),
    st.integers(0, 200),
    st.sampled_from([None, "because"]),
)
def test_nothing_advances_without_evidence_or_consent(
    tally: Tally, now_seconds: int, text: str | None
) -> None:
    verdict = ask(tally, now_us=now_seconds * SECOND, accepted=text)

    if verdict.decision is not Decision.ADVANCE:
        return
    # Whoever is under way may fail: it passes all the same, or it waits.
    with_all = wilson_upper(
        tally.failures + tally.in_progress, tally.judged + tally.in_progress
    )
    assert tally.in_progress == 0 or (now_seconds >= 60 and with_all < 0.05)
    if tally.judged:
        assert verdict.upper_bound < 0.05 or (text is not None and tally.failures == 0)
    else:
        assert tally.already > 0
