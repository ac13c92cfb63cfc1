# SPDX-License-Identifier: Apache-2.0
"""The journal, the pointers and the updater's rules survive kills at any point."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.errors import StateError, UpdateError
from edge_agent.ota.machine import (
    MAX_BOOTS,
    MAX_TRANSITIONS,
    TERMINAL,
    TRANSITIONS,
    Journal,
    UpdateRecord,
    UpdateState,
    build_report,
)
from edge_agent.ota.slots import Slots
from edge_agent.ota.updater import NotWantedError, Updater
from edge_contract.messages import UpdateReport
from tests.support.manual_clock import ManualClock
from tests.support.randomness import seeded

A, B, C = "a" * 64, "b" * 64, "c" * 64
S = UpdateState


def store(state_dir: Path, digest: str) -> Slots:
    slots = Slots(state_dir)
    part = state_dir / "part"
    part.write_bytes(digest.encode())
    slots.adopt(digest, part)
    return slots


def ready(state_dir: Path, digest: str) -> Journal:
    journal = Journal(state_dir / "update.json")
    journal.begin(UpdateRecord(slot="main", digest=digest, release_counter=1))
    for state in (S.DOWNLOADING, S.STAGED, S.SELFTEST):
        journal.advance(state)
    journal.note(tested=True)
    return journal


class Told:
    """An updater and what it told."""

    def __init__(self, state_dir: Path, script: str = "") -> None:
        self.clock = ManualClock()
        self.records: list[UpdateRecord] = []
        self.problems: list[str] = []
        self.slots = Slots(state_dir)
        self.updater = Updater(
            command=[sys.executable, "-c", script],
            folder=state_dir,
            slots=self.slots,
            clock=self.clock,
            poll_us=3_600_000_000,
            report=self.records.append,
            problem=self.problems.append,
            random=seeded(1),
        )

    def run_out(self) -> None:
        self.updater.poll()
        process = self.updater._process
        assert process is not None
        process.wait(30)

    @property
    def states(self) -> list[UpdateState]:
        return [one.state for one in self.records]


def test_every_state_has_its_row_and_every_end_can_begin_again() -> None:
    assert set(TRANSITIONS) == set(UpdateState)
    for state in TERMINAL:
        assert S.RESOLVED in TRANSITIONS[state]
    assert S.COMMITTED not in TRANSITIONS[S.SELFTEST]


def test_a_transition_outside_the_table_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "update.json")
    with pytest.raises(UpdateError, match="IDLE to TRIAL"):
        journal.advance(S.TRIAL)
    assert journal.record == UpdateRecord()


def test_no_loop_is_endless(tmp_path: Path) -> None:
    journal = ready(tmp_path, A)
    journal.advance(S.TRIAL)
    for _ in range(MAX_TRANSITIONS - journal.record.transitions):
        journal.advance(S.TRIAL)
    with pytest.raises(UpdateError, match=str(MAX_TRANSITIONS)):
        journal.advance(S.TRIAL)
    journal.advance(S.ROLLED_BACK)
    assert journal.record.state is S.ROLLED_BACK


def test_the_journal_is_on_disk_at_every_step(tmp_path: Path) -> None:
    journal = ready(tmp_path, A)
    assert Journal(tmp_path / "update.json").record == journal.record
    journal.end(S.FAILED, "agent.update.selftest", "detail", bad=True)
    again = Journal(tmp_path / "update.json")
    assert again.record.reason == "agent.update.selftest"
    assert again.is_known_bad(A, 1)
    assert not again.is_known_bad(A, 2)
    assert not again.is_known_bad(B, 1)


def test_attempts_count_by_release(tmp_path: Path) -> None:
    journal = ready(tmp_path, A)
    journal.end(S.FAILED, "x", "", bad=False)
    journal.begin(UpdateRecord(digest=A))
    assert journal.record.attempt == 2
    journal.begin(UpdateRecord(digest=B))
    assert journal.record.attempt == 1


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"record": {"state": "X"}}'])
def test_a_damaged_journal_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "update.json"
    path.write_bytes(data)
    with pytest.raises(StateError, match=r"update\.json: malformed"):
        Journal(path)


def test_a_report_says_what_the_record_says(tmp_path: Path) -> None:
    record = ready(tmp_path, A).record
    report = build_report(record, B, 7)(bytes(8), 3)
    assert isinstance(report, UpdateReport)
    assert (report.state, report.digest.hex(), report.serving.hex()) == (
        "SELFTEST",
        A,
        B,
    )
    assert (report.seq, report.time_us, report.attempt) == (3, 7, 1)


def test_pointers_keep_active_and_previous(tmp_path: Path) -> None:
    slots = store(tmp_path, A)
    for digest in (A, B, C):
        slots = store(tmp_path, digest)
        slots.begin_trial(digest)
        slots.commit()
    assert (slots.active, slots.previous, slots.trial) == (C, B, None)
    assert [slots.holds(one) for one in (A, B, C)] == [False, True, True]
    again = Slots(tmp_path)
    assert (again.active, again.previous) == (C, B)


def test_a_roll_back_leaves_active_alone(tmp_path: Path) -> None:
    slots = store(tmp_path, A)
    slots.begin_trial(A)
    slots.commit()
    store(tmp_path, B)
    slots.begin_trial(B)
    slots.roll_back()
    assert (slots.active, slots.trial) == (A, None)
    assert slots.collect(keep=B) == []
    assert slots.collect() == [B]


def test_a_trial_needs_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="expected a bundle"):
        Slots(tmp_path).begin_trial(A)


@pytest.mark.parametrize("digest", ["../../etc", "A" * 64, "a" * 63])
def test_only_digests_are_paths(tmp_path: Path, digest: str) -> None:
    with pytest.raises(StateError, match="64 hex digits"):
        Slots(tmp_path).path(digest)


def test_foreign_pointers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "slots.json").write_text(json.dumps({"format": 1, "active": "x"}))
    with pytest.raises(StateError, match=r"slots\.json"):
        Slots(tmp_path)


def test_a_ready_release_is_offered_once_and_commits(tmp_path: Path) -> None:
    store(tmp_path, A)
    ready(tmp_path, A)
    told = Told(tmp_path)
    staged = told.updater.poll()
    assert staged is not None
    assert (staged.digest, staged.slot) == (A, "main")
    assert staged.path.read_bytes() == A.encode()
    assert told.updater.poll() is None
    told.updater.begin_trial()
    assert told.slots.trial == A
    told.updater.committed()
    assert told.slots.active == A
    assert told.states == [S.SELFTEST, S.TRIAL, S.COMMITTED]


def test_a_bad_trial_is_remembered(tmp_path: Path) -> None:
    store(tmp_path, A)
    ready(tmp_path, A)
    told = Told(tmp_path)
    told.updater.poll()
    told.updater.begin_trial()
    told.updater.rolled_back("output-not-finite")
    assert (told.slots.active, told.slots.trial) == (None, None)
    assert told.records[-1].state is S.ROLLED_BACK
    assert told.records[-1].reason == "output-not-finite"
    assert Journal(tmp_path / "update.json").is_known_bad(A, 1)


def test_a_release_that_does_not_load_fails(tmp_path: Path) -> None:
    store(tmp_path, A)
    ready(tmp_path, A)
    told = Told(tmp_path)
    told.updater.poll()
    told.updater.rolled_back("agent.model", "no such runtime")
    assert told.records[-1].state is S.FAILED


def test_a_kill_in_the_trial_offers_again_at_most_three_times(tmp_path: Path) -> None:
    store(tmp_path, A)
    ready(tmp_path, A)
    told = Told(tmp_path)
    told.updater.poll()
    told.updater.begin_trial()
    for boot in range(1, MAX_BOOTS + 1):
        told = Told(tmp_path)
        staged = told.updater.poll()
        assert staged is not None
        assert told.updater.record.boots == boot
        told.updater.begin_trial()
    told = Told(tmp_path)
    assert told.updater.poll() is None
    assert told.updater.record.state is S.ROLLED_BACK
    assert told.updater.record.reason == "agent.update.boot-loop"
    assert told.slots.trial is None
    told.updater.close()


def test_a_kill_between_pointer_and_journal_is_a_commit(tmp_path: Path) -> None:
    slots = store(tmp_path, A)
    ready(tmp_path, A)
    told = Told(tmp_path)
    told.updater.poll()
    told.updater.begin_trial()
    slots.reload()
    slots.commit()
    told = Told(tmp_path)
    told.updater.poll()
    assert told.states == [S.COMMITTED]
    assert told.slots.active == A
    told.updater.close()


def test_the_subprocess_leaves_a_release_that_is_then_offered(tmp_path: Path) -> None:
    store(tmp_path, A)
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    ready(prepared, A)
    script = (
        f"import shutil; shutil.copy({str(prepared / 'update.json')!r}, "
        f"{str(tmp_path / 'update.json')!r})"
    )
    told = Told(tmp_path, script)
    assert told.updater.poll() is None
    process = told.updater._process
    assert process is not None
    process.wait(30)
    staged = told.updater.poll()
    assert staged is not None
    assert staged.digest == A
    assert told.states == [S.SELFTEST]


def test_hints_are_rate_limited_and_failures_back_off(tmp_path: Path) -> None:
    told = Told(tmp_path, "raise SystemExit(1)")
    told.run_out()
    told.updater.poll()
    assert not told.updater.is_checking
    told.updater.hint(0)
    told.updater.poll()
    assert not told.updater.is_checking
    told.clock.now_us += 2_000_000
    told.run_out()
    told.updater.poll()
    told.clock.now_us += 9_000_000
    told.updater.poll()
    assert not told.updater.is_checking
    told.clock.now_us += 12_000_000
    told.run_out()
    told.updater.close()
    assert not told.updater.is_checking


def test_a_flood_of_hints_comes_to_a_look_a_minute(tmp_path: Path) -> None:
    told = Told(tmp_path, "")
    looks: list[int] = []
    for second in range(600):
        told.updater.hint(0)
        told.updater.poll()
        if told.updater.is_checking:
            looks.append(second)
            told.run_out()
        told.clock.now_us += 1_000_000
    pauses = [after - before for before, after in pairwise(looks)]
    assert pauses[:6] == [2, 4, 8, 16, 32, 60]
    assert set(pauses[6:]) == {60}
    told.clock.now_us += 150_000_000
    told.updater.hint(0)
    told.run_out()
    told.clock.now_us += 2_000_000
    told.updater.hint(0)
    told.updater.poll()
    assert told.updater.is_checking
    told.updater.close()


def deferred(state_dir: Path, until_us: int | None) -> Journal:
    journal = Journal(state_dir / "update.json")
    journal.begin(UpdateRecord(slot="main", digest=A, release_counter=1))
    journal.defer("agent.update.window", "closed", until_us)
    return journal


@pytest.mark.parametrize(
    ("wait_us", "looks_after_us"),
    [(60_000_000, 60_000_000), (None, 3_600_000_000), (-5, 2_000_000)],
)
def test_a_deferred_update_is_looked_at_when_it_may_go_on(
    tmp_path: Path, wait_us: int | None, looks_after_us: int
) -> None:
    told = Told(tmp_path)
    told.updater.poll_us = 10**12
    told.run_out()
    deferred(tmp_path, None if wait_us is None else told.clock.now_us + wait_us)
    told.updater.poll()
    assert told.records[-1].reason == "agent.update.window"
    told.clock.now_us += looks_after_us - 1
    told.updater.poll()
    assert not told.updater.is_checking
    told.clock.now_us += looks_after_us + 1  # jitter: at most as long again
    told.run_out()
    told.updater.close()


def test_waiting_costs_no_transitions(tmp_path: Path) -> None:
    journal = deferred(tmp_path, 7)
    for day in range(3 * MAX_TRANSITIONS):
        journal.advance(S.DOWNLOADING)
        assert journal.record.fields == {}
        journal.defer("agent.update.budget", "spent", day)
    assert journal.record.transitions == 1
    assert Journal(tmp_path / "update.json").record.fields == {"deferred_until_us": day}


def test_a_final_refusal_is_not_asked_again_soon(tmp_path: Path) -> None:
    told = Told(tmp_path, "raise SystemExit(1)")
    told.run_out()
    journal = Journal(tmp_path / "update.json")
    journal.begin(UpdateRecord(slot="main", digest=A, release_counter=1))
    journal.end(S.FAILED, "agent.update.fetch-refused", "404", bad=False)
    told.updater.poll()
    told.clock.now_us += 2_000_000_000
    told.updater.poll()
    assert not told.updater.is_checking
    told.updater.hint(0)
    told.run_out()
    told.updater.close()


def test_states_are_told_while_the_subprocess_works(tmp_path: Path) -> None:
    told = Told(tmp_path, "import sys; sys.stdin.read(); import time; time.sleep(60)")
    told.updater.poll()
    assert told.updater.is_checking
    journal = Journal(tmp_path / "update.json")
    journal.begin(UpdateRecord(slot="main", digest=A, release_counter=1))
    told.updater.poll()
    journal.advance(S.DOWNLOADING)
    told.updater.poll()
    assert told.states == [S.RESOLVED, S.DOWNLOADING]
    told.updater.close()


def in_shadow(state_dir: Path) -> Told:
    store(state_dir, A)
    ready(state_dir, A)
    told = Told(state_dir)
    told.updater.poll()
    told.updater.begin_shadow()
    return told


def test_a_shadow_survives_starts_with_what_it_saw(tmp_path: Path) -> None:
    told = in_shadow(tmp_path)
    assert told.states == [S.SELFTEST, S.SHADOW]
    for seen in (10, 20, 30, 40, 50):
        told.updater.note_shadow({"compared": seen})
        told = Told(tmp_path)
        staged = told.updater.poll()
        assert staged is not None
        assert (staged.digest, staged.figures) == (A, {"compared": seen})
        assert not staged.is_on_trial
        told.updater.begin_shadow()
    told.updater.begin_trial()
    told.updater.committed({"compared": 60})
    assert told.records[-1].fields == {"compared": 60}
    assert told.updater.record.transitions < MAX_TRANSITIONS


def test_a_shadow_that_the_agent_dies_of_is_given_up(tmp_path: Path) -> None:
    in_shadow(tmp_path)
    for _ in range(MAX_BOOTS):
        told = Told(tmp_path)
        assert told.updater.poll() is not None
    told = Told(tmp_path)
    assert told.updater.record.state is S.FAILED
    assert told.updater.record.reason == "agent.update.boot-loop"
    assert Journal(tmp_path / "update.json").is_known_bad(A, 1)
    told.updater.close()


@pytest.mark.parametrize("is_clean", [True, False])
def test_only_starts_after_a_death_are_held_against_it(
    tmp_path: Path, *, is_clean: bool
) -> None:
    told = in_shadow(tmp_path)
    told.updater.begin_trial()
    for _ in range(2 * MAX_BOOTS):
        told.updater.close(is_clean=is_clean)
        told = Told(tmp_path)
    expected = S.TRIAL if is_clean else S.ROLLED_BACK
    assert told.updater.record.state is expected


def test_the_fleet_may_end_a_shadow(tmp_path: Path) -> None:
    told = in_shadow(tmp_path)
    assert told.updater.is_wanted(A)
    told.updater._command[2] = "import sys"
    told.run_out()  # it goes on looking for updates meanwhile
    journal = Journal(tmp_path / "update.json")
    journal.supersede("agent.update.superseded", "another")
    told.updater.note_shadow({"compared": 5})
    assert Journal(tmp_path / "update.json").record.state is S.SUPERSEDED
    told.updater.poll()
    assert not told.updater.is_wanted(A)
    assert told.states[-1] is S.SUPERSEDED


def test_what_was_superseded_begins_no_trial(tmp_path: Path) -> None:
    store(tmp_path, A)
    ready(tmp_path, A)
    told = Told(tmp_path)
    assert told.updater.poll() is not None
    journal = Journal(tmp_path / "update.json")
    journal.supersede("agent.update.superseded", "another")
    with pytest.raises(NotWantedError, match="SUPERSEDED"):
        told.updater.begin_trial()
    assert told.slots.trial is None
    told.updater.poll()
    assert told.states[-1] is S.SUPERSEDED
    told.updater.close()
