# SPDX-License-Identifier: Apache-2.0
"""Gates: what counts, what is enough, and what holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.rollout.gate import (
    Decision,
    Ground,
    Tally,
    Verdict,
    judge,
    needed_devices,
    tally_observations,
    wilson_lower,
    wilson_upper,
)
from fleet.rollout.model import DeviceOutcome, Observation, Policy

POLICY = Policy(failure_percent=5, deadline_seconds=60, soak_seconds=10)
SECOND = 1_000_000
# Long after the start and after the last success, but before the deadline.
NOW = 50 * SECOND


def ask(tally: Tally, *, now_us: int = NOW, accepted: str | None = None) -> Verdict:
    return judge(tally, POLICY, started_us=0, now_us=now_us, accepted=accepted)


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

    tally = tally_observations(observations, POLICY, now_us=60 * SECOND)

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
    assert tally.in_progress == 0
    if tally.judged:
        assert verdict.upper_bound < 0.05 or (text is not None and tally.failures == 0)
    else:
        assert tally.already > 0
