# SPDX-License-Identifier: Apache-2.0
"""Writing authentic messages: each (boot_id, seq) exactly once.

Owns what one message changes: its row, the roll-ups, the totals, presence and the
mark, all in the caller's transaction. A message that was committed before only counts
as a duplicate.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select, update

from edge_contract.errors import WindowError
from edge_contract.messages import (
    Birth,
    Event,
    Reply,
    State,
    UpdateReport,
    UpMessage,
    encode_message,
)
from edge_contract.profile import ReferenceProfile
from edge_contract.window import WindowStatistics
from edge_contract.window_report import WindowReport
from fleet.ingest.door import Accepted
from fleet.ingest.health import (
    record_birth_health,
    record_heartbeat,
    record_window,
)
from fleet.ingest.marks_store import MarksBook, Stream
from fleet.ingest.plain import to_plain
from fleet.ingest.presence import record_birth, record_fresh, record_state
from fleet.ingest.release_hours import add_to_release_hours
from fleet.ingest.rollup import add_to_rollups, add_to_shadows
from fleet.ingest.tally import Tally
from fleet.store.counters import read_counter, set_counter
from fleet.store.profiles import ProfileCache
from fleet.store.statistics import statistics_to_columns
from fleet.store.tables import events, kept_apart, outbound, update_reports, windows
from fleet.store.windows import HOUR_US

# A wall clock further than this from the server's is not believed.
_BELIEVED_AHEAD_US = 24 * 3_600_000_000
_MOST_FLOOR = 2**62


@dataclass(slots=True)
class Outcome:
    """What a batch leads to after its commit."""

    touched: set[Stream] = field(default_factory=set)  # to acknowledge
    births: list[str] = field(default_factory=list)  # devices to greet


class Recorder:
    """Records messages inside one write transaction.

    Args:
        connection: The transaction.
        profiles: Reference profiles.
        now_us: The time of receipt.
    """

    def __init__(
        self, connection: Connection, profiles: ProfileCache, now_us: int
    ) -> None:
        self._connection = connection
        self._profiles = profiles
        self._now_us = now_us
        self._marks = MarksBook(connection)
        self.tally = Tally()
        self.outcome = Outcome()

    def finish(self) -> Outcome:
        """Write marks and totals; return what follows from the batch."""
        self._marks.flush()
        self.tally.flush(self._connection, self._now_us)
        return self.outcome

    def record(self, accepted: Accepted) -> None:
        """Record one message."""
        message = accepted.message
        if isinstance(message, State):
            is_fresh = record_state(
                self._connection, accepted.device, message, self._now_us
            )
            if is_fresh:
                record_heartbeat(
                    self._connection, accepted.device, message, self._now_us
                )
            return
        stream = (accepted.device, message.boot_id)
        if isinstance(message, Birth):
            marks = self._marks.read(stream).raise_to(message.lowest_seq - 1)
            # The birth itself may be what lies below: it is recorded all the same.
            known = message.seq in self._marks.read(stream)
            self._marks.set(stream, marks)
        else:
            known = message.seq in self._marks.read(stream)
        totals = self.tally.device(accepted.device)
        if known:
            totals["duplicates"] += 1
            if isinstance(message, WindowReport):
                self._compare(accepted.device, message)
            self.outcome.touched.add(stream)
            return
        if not self._marks.read(stream).reaches(message.seq):
            self.tally.refuse("too-far-ahead", accepted.device)
            return
        self._dispatch(accepted, message)
        totals["bytes"] += accepted.bytes
        self._marks.set(stream, self._marks.read(stream).add(message.seq))
        self.outcome.touched.add(stream)
        record_fresh(self._connection, accepted.device, self._now_us)

    def _dispatch(self, accepted: Accepted, message: UpMessage) -> None:
        device = accepted.device
        if isinstance(message, WindowReport):
            self._record_window(accepted, message)
        elif isinstance(message, Birth):
            record_birth(self._connection, device, message, self._now_us)
            record_birth_health(self._connection, device, self._now_us)
            self._raise_floor(device, message.down_floor)
            self.outcome.births.append(device)
        elif isinstance(message, Event):
            body = to_plain(message)
            self._insert(events, device, message, name=message.name, body=body)
        elif isinstance(message, UpdateReport):
            self._insert(
                update_reports,
                device,
                message,
                digest=message.digest.hex(),
                state=message.state,
                body=to_plain(message),
            )
        else:
            self._record_reply(device, message)

    def _raise_floor(self, device: str, down_floor: int) -> None:
        """Go on above what the device has accepted, unless no number lies above it."""
        if down_floor > _MOST_FLOOR:
            self.tally.refuse("down-floor", device)
            return
        floor = f"down_seq/{device}"
        if read_counter(self._connection, floor) < down_floor:
            set_counter(self._connection, floor, down_floor)

    def _record_reply(self, device: str, reply: Reply) -> None:
        self._connection.execute(
            update(outbound)
            .where(
                outbound.c.id == reply.command,
                outbound.c.device == device,
                outbound.c.replied_us.is_(None),
            )
            .values(replied_us=self._now_us, reply=to_plain(reply))
        )

    def _record_window(self, accepted: Accepted, report: WindowReport) -> None:
        marks = self._marks.read((accepted.device, report.boot_id))
        profile = self._profiles.find(self._connection, report.ref_id)
        if any(seq in marks for seq in report.covers):
            self._keep_apart(accepted, report, "covers-committed")
        elif profile is None:
            self._keep_apart(accepted, report, "unknown-ref-id")
        else:
            self._add_consistent(accepted, report, profile)
        # Covered seqs were never sent and never will be.
        for seq in report.covers:
            marks = marks.add(seq) if marks.reaches(seq) else marks
        self._marks.set((accepted.device, report.boot_id), marks)

    def _add_consistent(
        self, accepted: Accepted, report: WindowReport, profile: ReferenceProfile
    ) -> None:
        """Add a window whose numbers can be true, or keep it apart."""
        try:
            statistics = report.statistics(profile)
            report.feedback()  # refused here, or never
        except WindowError:
            self._keep_apart(accepted, report, "inconsistent")
            return
        try:
            with self._connection.begin_nested():
                self._add_window(accepted, report, statistics, profile)
        except WindowError:
            # The sums would be larger than a count can be.
            self._keep_apart(accepted, report, "overflow")

    def _add_window(
        self,
        accepted: Accepted,
        report: WindowReport,
        statistics: WindowStatistics,
        profile: ReferenceProfile,
    ) -> None:
        start_us, retimed = self._time_of(report)
        hour_us = None if retimed else start_us // HOUR_US * HOUR_US
        self._insert(
            windows,
            accepted.device,
            report,
            fleet=accepted.fleet,
            digest8=report.release,
            start_us=start_us,
            duration_us=report.duration_us,
            monotonic_us=report.monotonic_us,
            clock_synced=report.clock_synced,
            retimed=retimed,
            lost=report.lost,
            covers=list(report.covers),
            **statistics_to_columns(statistics),
            **_evidence_columns(report),
        )
        add_to_rollups(
            self._connection,
            accepted.device,
            statistics,
            profile.layout,
            hour_us=hour_us,
            report=report,
        )
        if hour_us is not None:
            add_to_release_hours(
                self._connection,
                accepted.device,
                report,
                statistics,
                profile,
                hour_us=hour_us,
            )
        if report.shadow is not None:
            add_to_shadows(self._connection, accepted.device, report, report.shadow)
        self._count_window(accepted.device, report)
        record_window(self._connection, accepted.device, report, self._now_us)

    def _count_window(self, device: str, report: WindowReport) -> None:
        totals = self.tally.device(device)
        # A merge takes two rows and lists every seq below it: a full binary tree.
        totals["windows"] += len(report.covers) // 2 + 1
        totals["inferences"] += report.inferences
        totals["rows"] += report.rows
        totals["failed"] += report.failed
        totals["lost"] += report.lost

    def _compare(self, device: str, report: WindowReport) -> None:
        """Count a window that comes again with other counts; the first one stays."""
        query = select(windows.c.counts).where(
            windows.c.device == device,
            windows.c.boot_id == report.boot_id,
            windows.c.seq == report.seq,
        )
        counts = self._connection.execute(query).scalar()
        if counts is not None and bytes(counts) != report.count_block:
            self.tally.refuse("other-content", device)

    def _time_of(self, report: WindowReport) -> tuple[int, bool]:
        end_us = report.start_us + report.duration_us
        if report.clock_synced and end_us < self._now_us + _BELIEVED_AHEAD_US:
            return report.start_us, False
        return max(0, self._now_us - report.duration_us), True

    def _keep_apart(self, accepted: Accepted, report: WindowReport, why: str) -> None:
        self._insert(
            kept_apart,
            accepted.device,
            report,
            kind=accepted.kind,
            reason=why,
            payload=encode_message(report),
        )
        self.tally.refuse(why, accepted.device)

    def _insert(
        self, table: Any, device: str, message: UpMessage, **values: Any
    ) -> None:
        self._connection.execute(
            insert(table).values(
                device=device,
                boot_id=message.boot_id,
                seq=message.seq,
                received_us=self._now_us,
                **values,
            )
        )


def _evidence_columns(report: WindowReport) -> dict[str, Any]:
    shadow = report.shadow
    return {
        "feedback": report.feedback_block or None,
        "shadow8": None if shadow is None else shadow.release,
        "shadow_compared": None if shadow is None else shadow.compared,
        "shadow_disagreed": None if shadow is None else shadow.disagreed,
    }
