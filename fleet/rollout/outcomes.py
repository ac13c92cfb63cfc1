# SPDX-License-Identifier: Apache-2.0
"""What became of a device, from what it reported.

Owns the reading of update reports and of presence: success means that the device has
committed the release *and* serves it. Pure; ``records`` fetches the reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.rollout.model import DeviceOutcome, Observation

_COMMITTED = "COMMITTED"
_FAILED = frozenset({"FAILED", "ROLLED_BACK", "REJECTED"})
# Known of, put off, or replaced by a newer wish: no evidence about the release.
_NOT_STARTED = frozenset({"IDLE", "RESOLVED", "DEFERRED", "SUPERSEDED"})


@dataclass(frozen=True, slots=True)
class Report:
    """An update report about the release in question.

    Attributes:
        state: The state that the update reached.
        received_us: When the server got it.
        time_us: When the device wrote it, by its own clock.
        serving: The digest that served then, hex.
        reason: An error code, or empty.
    """

    state: str
    received_us: int
    time_us: int
    serving: str
    reason: str


@dataclass(frozen=True, slots=True)
class Serving:
    """What a device's newest heartbeat or birth says of the slot.

    Attributes:
        digest: The digest that serves, hex; empty for none.
        time_us: By the device's own clock.
    """

    digest: str
    time_us: int


def find_outcome(
    digest: str, reports: Sequence[Report], serving: Serving | None
) -> Observation:
    """Return what became of a device.

    Args:
        digest: The release of the rollout.
        reports: The device's reports about it since the rollout began, oldest first.
        serving: Its newest heartbeat, None if there never was one.
    """
    started_us: int | None = None
    last: Report | None = None
    for report in reports:
        state = report.state.upper()
        if state in _NOT_STARTED:
            continue
        if last is not None and _is_final(last) and not _is_final(report):
            # A new attempt after a failure starts again; a commit is not undone by
            # a late message of the attempt that led to it.
            if last.state.upper() == _COMMITTED:
                continue
            started_us = None
        if started_us is None:
            started_us = report.received_us
        last = report
    if last is None or started_us is None:
        is_served = serving is not None and serving.digest == digest
        return Observation(
            DeviceOutcome.ALREADY if is_served else DeviceOutcome.UNKNOWN
        )
    if last.state.upper() in _FAILED:
        return Observation(DeviceOutcome.FAILED, last.received_us, last.reason)
    if last.state.upper() != _COMMITTED:
        return Observation(DeviceOutcome.STARTED, started_us)
    if _newest_serving(last, serving) == digest:
        return Observation(DeviceOutcome.SUCCEEDED, last.received_us)
    return Observation(DeviceOutcome.STARTED, started_us, "committed, not serving")


def _is_final(report: Report) -> bool:
    state = report.state.upper()
    return state == _COMMITTED or state in _FAILED


def _newest_serving(report: Report, serving: Serving | None) -> str:
    if serving is None or serving.time_us < report.time_us:
        return report.serving
    return serving.digest
