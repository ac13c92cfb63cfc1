# SPDX-License-Identifier: Apache-2.0
"""What became of a device, from what it reported.

Owns the reading of update reports and of presence: success means that the device has
committed the release *and* serves it. Reports count in the order in which the device
wrote them, so that one which arrives late never undoes a newer one. Pure; ``records``
fetches the reports.
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
        stream: The boot id, hex: a new one begins when a device lost its outbox.
        seq: Its place in that stream; grows with every message.
        invariant: Which invariant broke in the trial, else empty.
        compared: Inferences that old and new release both made, so far.
        disagreed: Of these, those with another winner.
    """

    state: str
    received_us: int
    time_us: int
    serving: str
    reason: str
    stream: str = ""
    seq: int = 0
    invariant: str = ""
    compared: int = 0
    disagreed: int = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """What a device's newest heartbeat or birth says of the slot.

    Attributes:
        digest: The digest that serves, hex; empty for none.
        time_us: By the device's own clock.
        stream: The boot id of its last birth, hex; empty before the first.
    """

    digest: str
    time_us: int
    stream: str = ""


def order_reports(reports: Sequence[Report]) -> tuple[Report, ...]:
    """Return reports in the order in which the device wrote them.

    Args:
        reports: In the order of their arrival; the stream that was heard first is the
            older one.
    """
    streams: dict[str, int] = {}
    for one in reports:
        streams.setdefault(one.stream, len(streams))
    return tuple(sorted(reports, key=lambda one: (streams[one.stream], one.seq)))


def find_outcome(
    digest: str,
    reports: Sequence[Report],
    serving: Serving | None,
    *,
    failures_since_us: int = 0,
) -> Observation:
    """Return what became of a device.

    Args:
        digest: The release of the rollout.
        reports: The device's reports about it since the rollout began, in the order of
            their arrival.
        serving: Its newest heartbeat, None if there never was one.
        failures_since_us: Failed attempts before this are forgiven.
    """
    started_us: int | None = None
    last: Report | None = None
    failures = 0
    for report in order_reports(reports):
        state = report.state.upper()
        if state in _NOT_STARTED:
            continue
        failures += state in _FAILED and report.received_us > failures_since_us
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
    outcome, since_us, reason = _conclude(digest, last, started_us, serving)
    return Observation(
        outcome,
        since_us,
        reason,
        invariant=last.invariant if outcome is DeviceOutcome.FAILED else "",
        failures=failures,
        compared=last.compared,
        disagreed=last.disagreed,
    )


def _conclude(
    digest: str, last: Report, started_us: int, serving: Serving | None
) -> tuple[DeviceOutcome, int, str]:
    state = last.state.upper()
    if state in _FAILED:
        return DeviceOutcome.FAILED, last.received_us, last.reason
    if state == _COMMITTED and _newest_serving(last, serving) == digest:
        return DeviceOutcome.SUCCEEDED, last.received_us, ""
    if state == _COMMITTED:
        return DeviceOutcome.STARTED, started_us, "committed, not serving"
    if _is_cut_off(last, serving) and serving is not None and serving.digest == digest:
        # The device lost its outbox, and with it what it would have reported.
        return DeviceOutcome.SUCCEEDED, last.received_us, "known by its heartbeat"
    return DeviceOutcome.STARTED, started_us, ""


def _is_cut_off(last: Report, serving: Serving | None) -> bool:
    streams = ("", "") if serving is None else (last.stream, serving.stream)
    return all(streams) and streams[0] != streams[1]


def _is_final(report: Report) -> bool:
    state = report.state.upper()
    return state == _COMMITTED or state in _FAILED


def _newest_serving(report: Report, serving: Serving | None) -> str:
    if serving is None or serving.time_us < report.time_us:
        return report.serving
    return serving.digest
