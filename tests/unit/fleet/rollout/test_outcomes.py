# SPDX-License-Identifier: Apache-2.0
"""What a device's reports and heartbeats say of its update."""

from itertools import permutations

import pytest

from fleet.rollout.model import DeviceOutcome
from fleet.rollout.outcomes import Report, Serving, find_outcome

NEW, OLD = "n" * 64, "o" * 64


def report(state: str, at: int, serving: str = OLD, reason: str = "") -> Report:
    return Report(state, received_us=at, time_us=at, serving=serving, reason=reason)


@pytest.mark.parametrize(
    ("reports", "serving", "expected"),
    [
        ([], None, DeviceOutcome.UNKNOWN),
        ([], Serving(OLD, 5), DeviceOutcome.UNKNOWN),
        ([], Serving(NEW, 5), DeviceOutcome.ALREADY),
        ([report("RESOLVED", 1)], Serving(OLD, 0), DeviceOutcome.UNKNOWN),
        ([report("DEFERRED", 1)], None, DeviceOutcome.UNKNOWN),
        ([report("downloading", 1)], None, DeviceOutcome.STARTED),
        ([report("TRIAL", 1, NEW)], Serving(NEW, 5), DeviceOutcome.STARTED),
        ([report("COMMITTED", 1, NEW)], None, DeviceOutcome.SUCCEEDED),
        ([report("committed", 1, NEW)], Serving(NEW, 9), DeviceOutcome.SUCCEEDED),
        # The heartbeat before the commit is not news; one after it is.
        ([report("COMMITTED", 5, NEW)], Serving(OLD, 4), DeviceOutcome.SUCCEEDED),
        ([report("COMMITTED", 5, NEW)], Serving(OLD, 6), DeviceOutcome.STARTED),
        ([report("COMMITTED", 5, OLD)], None, DeviceOutcome.STARTED),
        ([report("COMMITTED", 5, OLD)], Serving(NEW, 6), DeviceOutcome.SUCCEEDED),
        ([report("ROLLED_BACK", 5)], Serving(NEW, 6), DeviceOutcome.FAILED),
        ([report("REJECTED", 5)], None, DeviceOutcome.FAILED),
        (
            [report("COMMITTED", 5, NEW), report("ROLLED_BACK", 6)],
            None,
            DeviceOutcome.FAILED,
        ),
        (
            [report("FAILED", 5), report("DOWNLOADING", 6)],
            None,
            DeviceOutcome.STARTED,
        ),
        (
            [report("COMMITTED", 5, NEW), report("TRIAL", 6, NEW)],
            None,
            DeviceOutcome.SUCCEEDED,
        ),
    ],
)
def test_outcomes(
    reports: list[Report], serving: Serving | None, expected: DeviceOutcome
) -> None:
    assert find_outcome(NEW, reports, serving).outcome is expected


def test_a_new_attempt_starts_the_deadline_again() -> None:
    reports = [
        report("DOWNLOADING", 1),
        report("FAILED", 2, reason="net"),
        report("DOWNLOADING", 8),
        report("SELFTEST", 9),
    ]

    assert find_outcome(NEW, reports[:2], None).reason == "net"
    assert find_outcome(NEW, reports, None).since_us == 8


def test_a_report_that_arrives_late_undoes_nothing() -> None:
    written = [
        Report(state, at, at, serving, "", "s1", seq)
        for seq, (state, at, serving) in enumerate(
            [
                ("DOWNLOADING", 1, OLD),
                ("SELFTEST", 2, OLD),
                ("FAILED", 3, OLD),
                ("DOWNLOADING", 4, OLD),
                ("TRIAL", 5, NEW),
                ("COMMITTED", 6, NEW),
            ]
        )
    ]
    expected = find_outcome(NEW, written, None)

    assert expected.outcome is DeviceOutcome.SUCCEEDED
    assert expected.failures == 1
    for arrival in permutations(written):
        assert find_outcome(NEW, arrival, None) == expected


def test_a_new_stream_follows_the_old_one() -> None:
    reports = [
        Report("TRIAL", 1, 1, NEW, "", "old", 900),
        Report("ROLLED_BACK", 2, 2, OLD, "trial", "new", 1),
        Report("COMMITTED", 3, 3, NEW, "", "old", 901),
    ]

    assert find_outcome(NEW, reports, None).outcome is DeviceOutcome.FAILED


def test_a_device_that_lost_its_outbox_is_known_by_its_heartbeat() -> None:
    reports = [Report("TRIAL", 1, 1, NEW, "", "lost", 7)]

    same = find_outcome(NEW, reports, Serving(NEW, 9, "lost"))
    lost = find_outcome(NEW, reports, Serving(NEW, 9, "made-anew"))
    gone = find_outcome(NEW, reports, Serving(OLD, 9, "made-anew"))

    assert same.outcome is DeviceOutcome.STARTED
    assert lost.outcome is DeviceOutcome.SUCCEEDED
    assert lost.reason == "known by its heartbeat"
    assert gone.outcome is DeviceOutcome.STARTED


def test_figures_of_the_trial_come_along() -> None:
    reports = [
        Report("ROLLED_BACK", 5, 5, OLD, "trial", invariant="latency", compared=90,
               disagreed=4),
    ]  # fmt: skip

    found = find_outcome(NEW, reports, None)

    assert (found.invariant, found.compared, found.disagreed) == ("latency", 90, 4)


def test_nonsense_counts_as_begun_and_will_be_late() -> None:
    found = find_outcome(NEW, [report("\x00banana", 3)], None)

    assert (found.outcome, found.since_us) == (DeviceOutcome.STARTED, 3)


def test_failures_before_a_release_from_the_box_are_forgiven() -> None:
    reports = [report("FAILED", at) for at in (1, 2, 3, 4)]

    assert find_outcome(NEW, reports, None).failures == 4
    assert find_outcome(NEW, reports, None, failures_since_us=3).failures == 1
