# SPDX-License-Identifier: Apache-2.0
"""The states of an update, and the journal that survives any kill.

Owns ``update.json``. A transition is on disk before its side effect begins, may only
follow the table, and there are at most so many of them in one update: no loop is
endless. A release that failed by itself (self-test, trial) is remembered as known bad
under its release counter; one that another took the place of is kept until that one has
ended, for its report. It does nothing; see ``update`` and ``updater``.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from edge_agent.errors import StateError, UpdateError
from edge_agent.store import write_atomic
from edge_contract.messages import UpdateReport, UpMessage
from edge_contract.wire import Scalar

MAX_TRANSITIONS: Final = 28
MAX_BOOTS: Final = 3
MAX_KNOWN_BAD: Final = 32
DEFERRED_UNTIL: Final = "deferred_until_us"
_FORMAT: Final = 1
_DETAIL_CHARACTERS = 500


class UpdateState(StrEnum):
    """Where an update is."""

    IDLE = "IDLE"
    RESOLVED = "RESOLVED"
    DEFERRED = "DEFERRED"
    DOWNLOADING = "DOWNLOADING"
    PATCHING = "PATCHING"
    STAGED = "STAGED"
    SELFTEST = "SELFTEST"
    SHADOW = "SHADOW"
    TRIAL = "TRIAL"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    SUPERSEDED = "SUPERSEDED"


_S = UpdateState
_ENDS: Final = frozenset({_S.FAILED, _S.REJECTED, _S.SUPERSEDED})
TERMINAL: Final = _ENDS | {_S.IDLE, _S.COMMITTED, _S.ROLLED_BACK}
TRANSITIONS: Final[dict[UpdateState, frozenset[UpdateState]]] = {
    **{state: frozenset({_S.RESOLVED, _S.REJECTED}) for state in TERMINAL},
    _S.RESOLVED: _ENDS | {_S.DEFERRED, _S.DOWNLOADING, _S.STAGED},
    _S.DEFERRED: _ENDS | {_S.DOWNLOADING, _S.STAGED},
    _S.DOWNLOADING: _ENDS | {_S.DEFERRED, _S.PATCHING, _S.STAGED},
    _S.PATCHING: _ENDS | {_S.DEFERRED, _S.STAGED, _S.DOWNLOADING},
    _S.STAGED: _ENDS | {_S.DEFERRED, _S.SELFTEST},
    _S.SELFTEST: _ENDS | {_S.SHADOW, _S.TRIAL},
    _S.SHADOW: _ENDS | {_S.TRIAL},
    _S.TRIAL: frozenset({_S.TRIAL, _S.COMMITTED, _S.ROLLED_BACK}),
}


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """One update.

    Attributes:
        digest: The release digest in hex; empty before the first update.
        tested: Whether the self-test has passed.
        boots: How often the agent started while the release was on trial.
        transitions: How many there were in this update.
        reason: An error code, where it ended badly or has to wait.
        policy: What the rule said of it, as it came.
        fields: Figures for reports (docs/spec/updates.md, UPD-27).
    """

    state: UpdateState = UpdateState.IDLE
    slot: str = ""
    target: str = ""
    digest: str = ""
    release_counter: int = 0
    desired_version: int = 0
    attempt: int = 0
    downloaded_bytes: int = 0
    tested: bool = False
    boots: int = 0
    transitions: int = 0
    reason: str = ""
    detail: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Scalar] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the update is under way, and another one may still take its place."""
        return self.state not in TERMINAL and self.state is not UpdateState.TRIAL

    @property
    def is_ready(self) -> bool:
        """Whether the release waits to be loaded."""
        return self.state is UpdateState.SELFTEST and self.tested

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as for ``--json``."""
        return asdict(self)

    def describe(self) -> str:
        """Return the update in one line, for people.

        >>> UpdateRecord().describe()
        'IDLE: nothing to do'
        """
        words = [f"{self.state}: {self.target or 'nothing to do'}"]
        until_us = self.fields.get(DEFERRED_UNTIL)
        if isinstance(until_us, int):
            until = datetime.fromtimestamp(until_us / 1e6, UTC).astimezone()
            words.append(f"until {until:%Y-%m-%d %H:%M %Z}")
        if self.reason:
            words.append(f"({self.reason}: {self.detail})")
        return " ".join(words)


@dataclass
class Journal:
    """``update.json``.

    Raises:
        StateError: The file is not ours.
    """

    path: Path
    record: UpdateRecord = field(default_factory=UpdateRecord)
    superseded: UpdateRecord | None = None
    known_bad: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    _seen: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.reload()

    def reload(self) -> None:
        """Read the file again: another process may have written it."""
        self._seen = self._identify()
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        try:
            wire = json.loads(data)
            self.record = _record(wire["record"])
            before = wire.get("superseded")
            self.superseded = None if before is None else _record(before)
            self.known_bad = {str(k): int(v) for k, v in wire["known_bad"].items()}
            self.problem = str(wire["problem"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"{self.path}: malformed: {error}",
                next_step="delete it; the next update starts anew",
            ) from error

    def is_changed(self) -> bool:
        """Return whether another process has written the file since."""
        return self._identify() != self._seen

    def begin(self, record: UpdateRecord) -> None:
        """Enter RESOLVED with a new update, or another attempt at the same one."""
        same = record.digest == self.record.digest
        attempt = self.record.attempt + 1 if same else 1
        self._save(
            replace(record, state=UpdateState.RESOLVED, attempt=attempt, transitions=1)
        )

    def advance(self, state: UpdateState, **changes: Any) -> None:
        """Enter ``state``; on disk when this returns.

        Raises:
            UpdateError: The table has no such transition, or there were too many.
        """
        now = self.record
        if state not in TRANSITIONS[now.state]:
            raise UpdateError(f"update: no transition from {now.state} to {state}")
        if now.transitions >= MAX_TRANSITIONS and state not in TERMINAL:
            raise UpdateError(
                f"update: expected at most {MAX_TRANSITIONS} transitions",
                next_step="the update is given up; look at `edge-agent status`",
            )
        if now.state is UpdateState.DEFERRED:  # what it waited for has come
            fields = {k: v for k, v in now.fields.items() if k != DEFERRED_UNTIL}
            changes = {"reason": "", "detail": "", "fields": fields, **changes}
        # Waiting is bounded by time: it does not count.
        count = now.transitions + (UpdateState.DEFERRED not in {state, now.state})
        if state in TERMINAL:
            self.superseded = None
        self._save(replace(now, state=state, transitions=count, **changes))

    def defer(self, reason: str, detail: str, until_us: int | None) -> None:
        """Enter DEFERRED, or say anew why it lasts; on disk when this returns."""
        fields = {k: v for k, v in self.record.fields.items() if k != DEFERRED_UNTIL}
        if until_us is not None:
            fields[DEFERRED_UNTIL] = until_us
        told = {"reason": reason, "detail": detail[:_DETAIL_CHARACTERS]}
        if self.record.state is not UpdateState.DEFERRED:
            self.advance(UpdateState.DEFERRED, **told, fields=fields)
        elif (self.record.reason, self.record.fields) != (reason, fields):
            self.note(**told, fields=fields)

    def supersede(self, reason: str, detail: str) -> None:
        """End an update that another one takes the place of, before its trial."""
        self.advance(UpdateState.SUPERSEDED, reason=reason, detail=detail)
        self.superseded = self.record
        self._save(self.record)

    def note(self, **changes: Any) -> None:
        """Change facts of the update within its state."""
        self._save(replace(self.record, **changes))

    def end(
        self,
        state: UpdateState,
        reason: str,
        detail: str,
        *,
        bad: bool,
        **changes: Any,
    ) -> None:
        """Enter an end state with its reason, remembering a bad release."""
        if bad:
            self.known_bad[self.record.digest] = self.record.release_counter
            for old in list(self.known_bad)[:-MAX_KNOWN_BAD]:
                del self.known_bad[old]
        detail = detail[:_DETAIL_CHARACTERS]
        self.advance(state, reason=reason, detail=detail, **changes)

    def set_problem(self, problem: str) -> None:
        """Remember what kept the last check from its result; empty clears it."""
        if problem != self.problem:
            self.problem = problem
            self._save(self.record)

    def is_known_bad(self, digest: str, release_counter: int) -> bool:
        """Return whether this release has failed here, and was not issued anew."""
        return self.known_bad.get(digest, -1) >= release_counter

    def _save(self, record: UpdateRecord) -> None:
        wire = {
            "format": _FORMAT,
            "record": asdict(record),
            "superseded": self.superseded and asdict(self.superseded),
            "known_bad": self.known_bad,
            "problem": self.problem,
        }
        write_atomic(self.path, json.dumps(wire, indent=1).encode())
        self._seen = self._identify()
        self.record = record

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def _record(wire: dict[str, Any]) -> UpdateRecord:
    return UpdateRecord(**{**wire, "state": UpdateState(wire["state"])})


def build_report(
    record: UpdateRecord, serving: str | None, time_us: int
) -> Callable[[bytes, int], UpMessage]:
    """Return a builder of the report of ``record`` for the outbox."""

    def build(boot_id: bytes, seq: int) -> UpMessage:
        return UpdateReport(
            boot_id=boot_id,
            seq=seq,
            slot=record.slot,
            state=record.state.value,
            digest=bytes.fromhex(record.digest),
            serving=bytes.fromhex(serving or ""),
            desired_version=record.desired_version,
            attempt=record.attempt,
            downloaded_bytes=record.downloaded_bytes,
            time_us=time_us,
            reason=record.reason,
            detail=record.detail,
            fields=record.fields,
        )

    return build
