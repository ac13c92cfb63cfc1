# SPDX-License-Identifier: Apache-2.0
"""What a device's reports and heartbeats say of its update."""

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
