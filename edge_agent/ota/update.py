# SPDX-License-Identifier: Apache-2.0
"""One update, up to the point where the daemon takes over: ``edge-agent update``.

Owns the order: metadata, rule, agreement of server and builder, download, bundle and
signature, self-test. It runs in a short-lived subprocess, touches nothing that serves,
and leaves its outcome in the journal. Called again after any interruption it goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile

from edge_agent.access import HttpAccess
from edge_agent.errors import UpdateError, UpdateTrustError
from edge_agent.ota.fetch import Access, Wanted
from edge_agent.ota.machine import Journal, UpdateRecord, UpdateState
from edge_agent.ota.obtain import Obtainer
from edge_agent.ota.resolve import (
    Rule,
    check_agreement,
    choose_delta,
    choose_rule,
    parse_desired,
    parse_release,
)
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.tuf_client import TufClient
from edge_agent.probe import Limits, SelfTestError, run_selftest
from edge_agent.store import StateLock
from edge_contract.bundle import Bundle
from edge_contract.enrolment import Enrolment
from edge_contract.errors import EXIT_TRUST, EdgeError

LOCK_NAME: Final = "update.lock"
JOURNAL_NAME: Final = "update.json"
WAIT_SECONDS: Final = 60.0  # slots update one after another
BUSY: Final = frozenset({UpdateState.TRIAL, UpdateState.SHADOW})


@dataclass(frozen=True)
class UpdateSettings:
    """What an update needs beside the enrolment.

    Attributes:
        state_dir: The agent's state folder.
        slot: Which slot is updated.
        hardware: The device profile in full words, as resolved from ``auto``.
        selftest_command: Given a bundle's path, the command that tests it.
        limits: What the test may use.
    """

    state_dir: Path
    slot: str
    hardware: str
    selftest_command: Callable[[Path], Sequence[str]]
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class _Order:
    rule: Rule
    target: TargetFile
    desired_version: int


def run_update(
    settings: UpdateSettings, enrolment: Enrolment, access: HttpAccess | None = None
) -> UpdateRecord:
    """Do what the server asks for, as far as it goes without the daemon.

    Returns:
        The journal's record: SELFTEST and ``tested`` where a release waits to be
        loaded, else what was there before or how this update ended.

    Raises:
        EdgeError: The check or the update failed; the journal says how.
    """
    with StateLock(settings.state_dir / LOCK_NAME, patience_seconds=WAIT_SECONDS):
        folder = open_slot(settings.state_dir, settings.slot)
        journal = Journal(folder / JOURNAL_NAME)
        if journal.record.state in BUSY:
            return journal.record
        access = access or HttpAccess.of(enrolment)
        client = TufClient(settings.state_dir, enrolment, access)
        try:
            order = _find_order(client, settings, enrolment)
        except EdgeError as error:
            journal.set_problem(f"{error.code}: {error}")
            raise
        journal.set_problem("")
        slots = Slots(folder)
        if order is not None and not _is_settled(order, journal, slots):
            _Attempt(settings, folder, journal, slots, client, access).run(order)
        return journal.record


def _find_order(
    client: TufClient, settings: UpdateSettings, enrolment: Enrolment
) -> _Order | None:
    client.refresh()
    data = client.fetch_desired()
    if data is None:
        return None
    desired = parse_desired(data)
    if desired.fleet != enrolment.fleet:
        raise UpdateTrustError(
            f"desired.json: expected fleet {enrolment.fleet}, found {desired.fleet}"
        )
    client.check_desired_version(desired.version)
    rule = choose_rule(desired, settings.slot, enrolment.device, enrolment.tags)
    if rule is None:
        client.raise_desired_version(desired.version)
        return None
    target = client.find_model(rule.target)
    release = parse_release(rule.target, target.custom or {}, target.length)
    check_agreement(rule, release, settings.hardware)
    client.raise_desired_version(desired.version)
    return _Order(rule, target, desired.version)


def _is_settled(order: _Order, journal: Journal, slots: Slots) -> bool:
    """Whether the release serves, waits for the daemon, or has failed here before."""
    digest = order.rule.digest
    waits = journal.record.is_ready and journal.record.digest == digest
    return (
        slots.active == digest
        or (waits and slots.holds(digest))
        or journal.is_known_bad(digest, order.rule.release_counter)
    )


@dataclass(frozen=True)
class _Attempt:
    settings: UpdateSettings
    folder: Path
    journal: Journal
    slots: Slots
    client: TufClient
    access: Access

    def run(self, order: _Order) -> None:
        """Take a release from RESOLVED to a passed self-test."""
        journal, rule = self.journal, order.rule
        journal.begin(
            UpdateRecord(
                slot=self.settings.slot,
                target=rule.target,
                digest=rule.digest,
                release_counter=rule.release_counter,
                desired_version=order.desired_version,
            )
        )
        try:
            path = self._stage(order)
            journal.advance(UpdateState.SELFTEST)
            run_selftest(self.settings.selftest_command(path), self.settings.limits)
            journal.note(tested=True)
        except EdgeError as error:
            is_bad = isinstance(error, SelfTestError)
            refused = error.exit_code == EXIT_TRUST
            state = UpdateState.REJECTED if refused else UpdateState.FAILED
            journal.end(state, error.code, str(error), bad=is_bad)
            raise
        except OSError as error:
            journal.end(UpdateState.FAILED, UpdateError.code, str(error), bad=False)
            raise UpdateError(
                f"update: {error}", next_step="check the disk; the device tries again"
            ) from error

    def _stage(self, order: _Order) -> Path:
        """Bring a verified bundle into the store."""
        digest = order.rule.digest
        self.slots.collect(keep=digest)
        if self.slots.holds(digest):
            try:
                self._verify(self.slots.path(digest), digest)
            except EdgeError:
                self.slots.remove(digest)
                raise
            self.journal.advance(UpdateState.STAGED)
            return self.slots.path(digest)
        target = order.target
        wanted = Wanted(
            self.client.target_url(target), target.length, target.hashes["sha256"]
        )
        obtainer = Obtainer(
            self.folder / "part",
            self.client.targets_url,
            self.slots,
            self.journal,
            self.access,
        )
        offer = choose_delta(order.rule, target.length, self.slots.holds)
        part = obtainer.run(wanted, offer)
        try:
            self._verify(part, digest)
        except EdgeError:
            obtainer.discard()
            raise
        self.slots.adopt(digest, part)
        obtainer.discard()
        self.journal.advance(UpdateState.STAGED)
        return self.slots.path(digest)

    def _verify(self, path: Path, digest: str) -> None:
        with Bundle.open(path) as bundle:
            bundle.verify_signature(self.client.model_keys())
            if bundle.manifest.digest != digest:
                raise UpdateTrustError(
                    f"{path}: expected release {digest}, found "
                    f"{bundle.manifest.digest}",
                    next_step="publish the release again",
                )
            bundle.check_files()
