# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of updates: when to check, and what the outcome of a trial means.

Owns the schedule (announce, poll, command, retry), the subprocess ``edge-agent update``
and the journal from trial to commit. It loads no model: ``poll`` says when a release is
ready, the daemon swaps it in and reports back.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.errors import UpdateError
from edge_agent.ota.machine import (
    DEFERRED_UNTIL,
    MAX_BOOTS,
    Journal,
    UpdateRecord,
    UpdateState,
)
from edge_agent.ota.slots import Slots
from edge_contract.update_policy import UpdatePolicy, parse_policy
from edge_contract.wire import Scalar

JOURNAL_NAME: Final = "update.json"
MIN_HINT_US: Final = 2_000_000
MAX_HINT_US: Final = 60_000_000
FIRST_RETRY_US: Final = 10_000_000
MAX_RETRY_US: Final = 3_600_000_000
MAX_SPREAD_SECONDS: Final = 86_400
MAX_LATE_US: Final = 300_000_000  # after a window opens
# Asking for the same again is useless; announcements and polls come all the same.
FINAL: Final = frozenset({"agent.update.fetch-refused"})
UNKNOWN_WAIT_US: Final = 3_600_000_000  # where nobody knows how long it lasts
_MAX_DOUBLINGS = 12
_STOP_SECONDS = 10.0
_SECOND_US = 1_000_000
_S = UpdateState


@dataclass(frozen=True, slots=True)
class StagedRelease:
    """A verified, self-tested release that waits to be loaded; see ``Staged``."""

    digest: str
    path: Path
    slot: str
    policy: UpdatePolicy = field(default_factory=UpdatePolicy)
    is_on_trial: bool = False
    figures: Mapping[str, Scalar] = field(default_factory=dict)


class NotWantedError(UpdateError):
    """What waited to be tried is not wanted any more."""

    code = "agent.update.not-wanted"


class Updater:
    """Drives updates from the daemon's loop; one thread uses it.

    Args:
        command: Starts the subprocess.
        folder: The slot's folder.
        slots: The daemon's pointers.
        clock: The time.
        poll_us: How often to look without being told, jittered by a tenth.
        report: Told of every state worth reporting.
        problem: Told, once, why a check did not even come to a release.
    """

    def __init__(  # noqa: PLR0913 - the composition point of updates
        self,
        *,
        command: Sequence[str],
        folder: Path,
        slots: Slots,
        clock: Clock,
        poll_us: int,
        report: Callable[[UpdateRecord], None],
        problem: Callable[[str], None] = lambda _: None,
        random: Random | None = None,
    ) -> None:
        self._command = list(command)
        self._slots = slots
        self._clock = clock
        self.poll_us = poll_us
        self._report = report
        self._problem = problem
        self._random = random or SystemRandom()
        self._journal = Journal(folder / JOURNAL_NAME)
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._checked_us: int | None = None
        self._hint_us = MIN_HINT_US
        # A kill may have come between journal and report: tell the last state again.
        self._reported: UpdateRecord | None = None
        self._told_superseded: UpdateRecord | None = None
        self._told_problem = self._journal.problem
        self._started = self._journal.record
        self._due_us = clock.monotonic_us()
        self._offered = False
        self._recover()

    @property
    def record(self) -> UpdateRecord:
        """Where the current or last update is."""
        return self._journal.record

    def describe(self) -> dict[str, Any] | None:
        """Return the update for the status; None where there never was one."""
        record = self.record
        if not record.digest:
            return None
        keys = ("state", "target", "digest", "desired_version", "reason", "detail")
        told = record.to_json()
        return {
            **{key: told[key] for key in keys},
            **record.fields,
            "text": record.describe(),
        }

    @property
    def is_checking(self) -> bool:
        """Whether the subprocess runs."""
        return self._process is not None

    def hint(self, spread_seconds: int) -> None:
        """Look soon, spread over ``spread_seconds``: metadata may be new.

        Anybody may send hints; they make us look no more often than every two seconds,
        twice as seldom after each look that found nothing, down to once a minute, and
        never later than we would without.
        """
        spread_us = min(spread_seconds, MAX_SPREAD_SECONDS) * _SECOND_US
        self._look_at(int(self._random.uniform(0, spread_us)), self._hint_us)

    def check_now(self) -> None:
        """Look at once: an authenticated command says so."""
        self._look_at(0, MIN_HINT_US)

    def poll(self) -> StagedRelease | None:
        """Do what is due; call about once a second.

        Returns:
            A release to load, once for each; or None.
        """
        if self._process is not None and self._process.poll() is not None:
            self._finish(self._process.returncode)
        self._hear_of_others()
        self._tell()
        record = self._journal.record
        ready = record.is_ready or record.state in {_S.SHADOW, _S.TRIAL}
        if ready and self._process is None and not self._offered:
            self._offered = True
            return StagedRelease(
                record.digest,
                self._slots.path(record.digest),
                record.slot,
                parse_policy(record.policy),
                self._is_on_trial,
                record.fields,
            )
        is_free = not self._offered or record.state is _S.SHADOW
        idle = self._process is None and is_free
        if idle and self._clock.monotonic_us() >= self._due_us:
            self._start()
        return None

    def is_wanted(self, digest: str) -> bool:
        """Return whether a release in the shadow is still to be tried."""
        record = self._journal.record
        return record.state is _S.SHADOW and record.digest == digest

    def begin_shadow(self) -> None:
        """The daemon is about to run the release in the shadow of the other.

        Raises:
            NotWantedError: It is not wanted any more.
        """
        if self._journal.record.state is not _S.SHADOW:
            self._check_wanted()
            self._journal.advance(_S.SHADOW)
        self._tell()

    def note_shadow(self, figures: Mapping[str, Scalar]) -> None:
        """Make durable what was seen in the shadow; the agent has not died of it.

        While another process looks for updates it may end this one: nothing is noted.
        """
        is_mine = self._process is None and not self._journal.is_changed()
        if is_mine and self._journal.record.state is _S.SHADOW:
            self._journal.note(fields=dict(figures), boots=0)

    def begin_trial(self) -> None:
        """The daemon is about to let the release serve.

        Raises:
            NotWantedError: It is not wanted any more.
        """
        self._check_wanted()
        if not self._is_on_trial:
            self._journal.advance(UpdateState.TRIAL)
        self._slots.begin_trial(self._journal.record.digest)
        self._tell()

    def committed(self, figures: Mapping[str, Scalar] | None = None) -> None:
        """The release has proved itself."""
        self._slots.commit()
        fields = {**self._journal.record.fields, **(figures or {})}
        self._journal.advance(UpdateState.COMMITTED, fields=fields)
        self._offered = False
        self._tell()

    def rolled_back(
        self,
        reason: str,
        detail: str = "",
        figures: Mapping[str, Scalar] | None = None,
    ) -> None:
        """The release was taken out again, or could not be loaded."""
        on_trial = self._is_on_trial
        self._slots.roll_back()
        state = UpdateState.ROLLED_BACK if on_trial else UpdateState.FAILED
        fields = {**self._journal.record.fields, **(figures or {})}
        self._journal.end(state, reason, detail, bad=True, fields=fields)
        self._offered = False
        self._tell()

    def close(self, *, is_clean: bool = True) -> None:
        """End the subprocess; what it fetched is kept.

        Args:
            is_clean: The agent ends because it was told to: what is on trial is not
                to blame, and starts are counted anew.
        """
        is_trying = self._journal.record.state in {_S.SHADOW, _S.TRIAL}
        if is_clean and is_trying and not self._journal.is_changed():
            self._journal.note(boots=0)
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _is_on_trial(self) -> bool:
        return self._journal.record.state is UpdateState.TRIAL

    def _recover(self) -> None:
        """Settle what a kill in the middle of a trial left behind."""
        record = self._journal.record
        if not self._is_on_trial:
            if self._slots.trial is not None:
                self._slots.roll_back()
            if record.state is _S.SHADOW:
                if record.boots >= MAX_BOOTS or not self._slots.holds(record.digest):
                    self.rolled_back("agent.update.boot-loop")
                else:
                    self._journal.note(boots=record.boots + 1)
            return
        if self._slots.active == record.digest:  # killed between the two commits
            self._journal.advance(UpdateState.COMMITTED)
        elif record.boots >= MAX_BOOTS or not self._slots.holds(record.digest):
            self.rolled_back("agent.update.boot-loop")
        else:
            self._journal.advance(UpdateState.TRIAL, boots=record.boots + 1)

    def _hear_of_others(self) -> None:
        """Read the journal again where another process wrote it."""
        if not self._journal.is_changed():
            return
        in_shadow = self._journal.record.state is _S.SHADOW
        if not self._offered or in_shadow:
            self._journal.reload()
            self._slots.reload()
            self._offered = self._journal.record.state is _S.SHADOW and self._offered

    def _check_wanted(self) -> None:
        before = self._journal.record
        if not self._journal.is_changed():
            return
        self._journal.reload()
        now = self._journal.record
        if (now.digest, now.state) != (before.digest, before.state):
            self._offered = False
            raise NotWantedError(f"release {before.digest[:12]}: it is {now.state} now")

    def _look_at(self, delay_us: int, pause_us: int) -> None:
        at_us = self._clock.monotonic_us() + delay_us
        if self._checked_us is not None:
            at_us = max(at_us, self._checked_us + pause_us)
        self._due_us = min(self._due_us, at_us)

    def _start(self) -> None:
        now_us = self._clock.monotonic_us()
        before_us = self._checked_us
        if before_us is None or now_us - before_us >= 2 * self._hint_us:
            self._hint_us = MIN_HINT_US
        else:
            self._hint_us = min(2 * self._hint_us, MAX_HINT_US)
        self._checked_us = now_us
        jitter = self._random.uniform(0.9, 1.1)
        self._due_us = self._checked_us + int(self.poll_us * jitter)
        self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def _finish(self, code: int) -> None:
        self._process = None
        self._journal.reload()
        self._slots.reload()
        self._offered = self._offered and self._journal.record.state is _S.SHADOW
        if not code:
            self._failures = 0
            self._look_when_it_may_go_on()
        elif self._journal.problem or self._journal.record.reason not in FINAL:
            self._failures += 1
            base = FIRST_RETRY_US << min(self._failures - 1, _MAX_DOUBLINGS)
            pause = self._random.uniform(0.5, 1.0) * min(base, MAX_RETRY_US)
            retry_us = self._clock.monotonic_us() + int(pause)
            self._due_us = min(self._due_us, retry_us)
        if self._journal.record != self._started:
            self._hint_us = MIN_HINT_US

    def _look_when_it_may_go_on(self) -> None:
        record = self._journal.record
        if record.state is not UpdateState.DEFERRED:
            return
        until_us = record.fields.get(DEFERRED_UNTIL)
        wait_us = UNKNOWN_WAIT_US
        if isinstance(until_us, int):
            wait_us = max(MIN_HINT_US, until_us - self._clock.wall_us())
        # All devices of a zone would come at the same moment.
        wait_us += int(self._random.uniform(0, min(wait_us, MAX_LATE_US)))
        self._due_us = min(self._due_us, self._clock.monotonic_us() + wait_us)

    def _tell(self) -> None:
        problem = self._journal.problem
        if problem != self._told_problem:
            self._told_problem = problem
            if problem:
                self._problem(problem)
        before = self._journal.superseded
        if before is not None and before != self._told_superseded:
            self._told_superseded = before
            self._report(before)
        record = self._journal.record
        if record.digest and record != self._reported:
            self._reported = record
            self._report(record)
