# SPDX-License-Identifier: Apache-2.0
"""The invariants of a trial: each holds, is broken, or cannot be judged yet."""

from dataclasses import replace

import pytest

from edge_agent.ota.trial import (
    Evidence,
    Invariant,
    TrialLimits,
    TrialVerdict,
    find_breach,
    judge,
    lower_percent,
    recall,
)
from edge_contract.update_policy import TrialPolicy

LIMITS = TrialLimits(
    inferences=100,
    seconds=600.0,
    max_p95_percent=200,
    max_memory_bytes=1000,
    min_confidence_percent=70,
    max_disagreement_percent=20,
)
FINE = Evidence(
    seconds=60.0,
    finite=99,
    latencies=60,
    latencies_before=60,
    p95_us=9_000.0,
    p95_before_us=5_000.0,
    grown_bytes=1000,
    rss_bytes=4096,
    is_comparable=True,
    compared=40,
    disagreed=8,
    confidence=0.7,
    confidence_before=0.9,
)


def test_a_release_that_holds_to_everything() -> None:
    assert judge(LIMITS, FINE) == (TrialVerdict.GO_ON, None)
    assert judge(LIMITS, replace(FINE, finite=100)) == (TrialVerdict.COMMIT, None)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"not_finite": 1}, Invariant.NOT_FINITE),
        ({"failed": 1}, Invariant.FAILED),
        ({"p95_us": 10_001.0}, Invariant.LATENCY),
        ({"grown_bytes": 1001}, Invariant.MEMORY),
        ({"confidence": 0.62}, Invariant.CONFIDENCE),
        ({"disagreed": 20}, Invariant.DISAGREEMENT),
        ({"compared": 10, "disagreed": 10}, Invariant.DISAGREEMENT),
    ],
)
def test_a_breach_ends_it_whatever_else_is_fine(
    changes: dict[str, float], broken: Invariant
) -> None:
    for finite in (1, 1000):
        seen = replace(FINE, finite=finite, **changes)  # type: ignore[arg-type]
        assert judge(LIMITS, seen) == (TrialVerdict.ROLL_BACK, broken)
        assert seen.figures(broken)["invariant"] == broken.value
        assert seen.describe(broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"p95_us": 99_000.0, "latencies": 49},
        {"p95_us": 99_000.0, "latencies_before": 49},
        {"p95_us": 99_000.0, "p95_before_us": None},
        {"p95_us": 99_000.0, "compared": 29},  # it may be the machine that is slow
        {"p95_us": 900.0, "p95_before_us": 90.0},  # ten times as much, and nothing
        {"grown_bytes": None},
        {"confidence": 0.1, "compared": 29, "disagreed": 0},
        {"confidence": 0.1, "confidence_before": None},
        {"compared": 4, "disagreed": 1},
    ],
)
def test_what_cannot_be_judged_condemns_nothing(changes: dict[str, float]) -> None:
    assert find_breach(LIMITS, replace(FINE, **changes)) is None  # type: ignore[arg-type]


def test_it_waits_for_the_comparison_and_not_for_ever() -> None:
    seen = replace(FINE, finite=1000, compared=29, disagreed=0)
    assert judge(LIMITS, seen)[0] is TrialVerdict.GO_ON
    assert judge(LIMITS, replace(seen, is_comparable=False))[0] is TrialVerdict.COMMIT
    assert judge(LIMITS, replace(seen, seconds=600.0))[0] is TrialVerdict.COMMIT


def test_a_trial_without_traffic_ends_with_a_commit() -> None:
    assert judge(LIMITS, Evidence(seconds=599.0))[0] is TrialVerdict.GO_ON
    assert judge(LIMITS, Evidence(seconds=600.0))[0] is TrialVerdict.COMMIT


def test_the_policy_comes_before_the_device() -> None:
    policy = TrialPolicy(inferences=7, max_disagreement_percent=0)
    assert LIMITS.under(policy) == replace(
        LIMITS, inferences=7, max_disagreement_percent=0
    )
    assert find_breach(LIMITS.under(policy), replace(FINE, disagreed=1)) is (
        Invariant.DISAGREEMENT
    )


def test_the_interval_is_wilsons() -> None:
    # Published: 81 of 263 gives 25.5 % at 95 % (Newcombe 1998, table I).
    assert lower_percent(81, 263) == pytest.approx(25.5, abs=0.05)
    assert lower_percent(0, 0) == lower_percent(0, 20) == 0.0


def test_figures_are_integers_and_come_back() -> None:
    figures = FINE.figures()
    assert figures == {
        "compared": 40,
        "disagreed": 8,
        "p95_us": 9000,
        "p95_us_before": 5000,
        "confidence_ppm": 700_000,
        "confidence_ppm_before": 900_000,
        "rss_kib": 4,
        "seconds": 60,
    }
    assert recall(figures) == Evidence(
        seconds=60,
        compared=40,
        disagreed=8,
        confidence=0.7,
        confidence_before=0.9,
    )
    assert recall({"compared": "x", "seconds": None}) == Evidence()
