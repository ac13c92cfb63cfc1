# SPDX-License-Identifier: Apache-2.0
"""One update, up to the point where the daemon takes over: ``edge-agent update``.

Owns the order: metadata, rule, agreement of server and builder, download, bundle and
signature, self-test. It runs in a short-lived subprocess, touches nothing that serves,
and leaves its outcome in the journal. Called again after any interruption it goes on;
what has to wait is DEFERRED, and what another release takes the place of SUPERSEDED.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile

from edge_agent.access import HttpAccess
from edge_agent.clock import Clock, SystemClock
from edge_agent.errors import UpdateError, UpdateTrustError
from edge_agent.ota.deferral import DeferredError, Gate, Terms
from edge_agent.ota.fetch import Access, ServerAccess, Wanted
from edge_agent.ota.machine import Journal, UpdateRecord, UpdateState
from edge_agent.ota.obtain import PARTS, Obtainer, discard_parts
from edge_agent.ota.resolve import (
    Rule,
    check_agreement,
    choose_delta,
    choose_rule,
    parse_desired,
    parse_release,
)
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.spending import Spending
from edge_agent.ota.tuf_client import TufClient
from edge_agent.probe import Limits, Proof, SelfTestError, run_selftest
from edge_agent.store import StateLock
from edge_contract.bundle import Bundle
from edge_contract.enrolment import Enrolment
from edge_contract.errors import EXIT_TRUST, EdgeError

LOCK_NAME: Final = "update.lock"
JOURNAL_NAME: Final = "update.json"
WAIT_SECONDS: Final = 60.0  # slots update one after another
SUPERSEDED: Final = "agent.update.superseded"


@dataclass(frozen=True)
class UpdateSettings:
    """What an update needs beside the enrolment.

    Attributes:
        state_dir: The agent's state folder.
        slot: Which slot is updated.
        hardware: The device profile in full words, as resolved from ``auto``.
        selftest_command: Given a bundle's path, the command that tests it.
        limits: What the test may use.
        terms: What the device says of when and how updates may run.
        is_now: A person asked for it: it does not wait.
        clock: The time.
    """

    state_dir: Path
    slot: str
    hardware: str
    selftest_command: Callable[[Path], Sequence[str]]
    limits: Limits = field(default_factory=Limits)
    terms: Terms = field(default_factory=Terms)
    is_now: bool = False
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True)
class _Order:
    rule: Rule
    target: TargetFile
    desired_version: int


def run_update(
    settings: UpdateSettings, enrolment: Enrolment, access: ServerAccess | None = None
) -> UpdateRecord:
    """Do what the server asks for, as far as it goes without the daemon.

    Args:
        settings: What it needs.
        enrolment: Whose root is trusted, and where the server is.
        access: Another way to the same repository; None: to the server.

    Returns:
        The journal's record: SELFTEST and ``tested`` where a release waits to be
        loaded, DEFERRED where it must not be fetched yet, else what was there before or
        how this update ended.

    Raises:
        EdgeError: The check or the update failed; the journal says how.
    """
    with StateLock(settings.state_dir / LOCK_NAME, patience_seconds=WAIT_SECONDS):
        folder = open_slot(settings.state_dir, settings.slot)
        journal = Journal(folder / JOURNAL_NAME)
        if journal.record.state is UpdateState.TRIAL:
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
        _supersede(order, journal, slots, folder / PARTS)
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


def _supersede(
    order: _Order | None, journal: Journal, slots: Slots, parts: Path
) -> None:
    """End what is under way where the fleet does not want it any more.

    What was fetched is kept where nothing else is wanted: a rollout that was paused may
    go on. What came from a stick ends only for another release.
    """
    record = journal.record
    is_other = order is not None and order.rule.digest != slots.active
    is_same = order is not None and (record.digest, record.release_counter) == (
        order.rule.digest,
        order.rule.release_counter,
    )
    if not record.is_open or is_same or not (is_other or record.desired_version):
        return
    version = record.desired_version if order is None else order.desired_version
    detail = f"the fleet wants something else since desired version {version}"
    journal.supersede(SUPERSEDED, detail)
    if is_other:
        discard_parts(parts)


def _is_settled(order: _Order, journal: Journal, slots: Slots) -> bool:
    """Whether the release serves, waits for the daemon, or has failed here before."""
    digest = order.rule.digest
    is_waiting = journal.record.is_ready or journal.record.state is UpdateState.SHADOW
    waits = is_waiting and journal.record.digest == digest
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
        """Take a release from RESOLVED to a passed self-test, or as far as may be."""
        journal = self.journal
        self._begin(order)
        gate = self._gate(order)
        try:
            gate.check_time()
            path = self._stage(order, gate)
            gate.check_time()
            journal.advance(UpdateState.SELFTEST)
            proof = self._selftest(path, order.rule.policy.trial.max_memory_bytes)
            figures = {"p95_us": proof.p95_us, "rss_kib": proof.peak_kib}
            journal.note(tested=True, fields={**journal.record.fields, **figures})
        except DeferredError as error:
            journal.defer(error.code, str(error), error.until_us)
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

    def _selftest(self, path: Path, most_bytes: int | None) -> Proof:
        limits = self.settings.limits
        command = list(self.settings.selftest_command(path))
        if most_bytes is not None and most_bytes < limits.memory_bytes:
            limits = replace(limits, memory_bytes=most_bytes)
            command += limits.arguments  # the last one counts
        return run_selftest(command, limits)

    def _begin(self, order: _Order) -> None:
        rule, record = order.rule, self.journal.record
        found = UpdateRecord(
            slot=self.settings.slot,
            target=rule.target,
            digest=rule.digest,
            release_counter=rule.release_counter,
            desired_version=order.desired_version,
            policy=dict(rule.told),
        )
        is_same = (record.digest, record.release_counter) == (
            found.digest,
            found.release_counter,
        )
        if record.state is not UpdateState.DEFERRED or not is_same:
            self.journal.begin(found)
        elif (record.desired_version, record.policy) != (
            found.desired_version,
            found.policy,
        ):
            self.journal.note(
                desired_version=found.desired_version, policy=found.policy
            )

    def _gate(self, order: _Order) -> Gate:
        settings = self.settings
        return Gate(
            settings.terms, order.rule.policy, settings.clock, is_now=settings.is_now
        )

    def _stage(self, order: _Order, gate: Gate) -> Path:
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
            self.folder / PARTS,
            self.client.targets_url,
            self.slots,
            self.journal,
            self.access,
            gate,
            self._allow(gate),
        )
        offer = choose_delta(order.rule, target.length, self.slots.holds)
        part = obtainer.run(wanted, offer)
        try:
            self._verify(part, digest)
        except EdgeError:
            discard_parts(self.folder / PARTS)
            raise
        self.slots.adopt(digest, part)
        discard_parts(self.folder / PARTS)
        self.journal.advance(UpdateState.STAGED)
        return self.slots.path(digest)

    def _allow(self, gate: Gate) -> Callable[[bool], Spending]:
        state_dir = self.settings.state_dir
        return lambda is_delta: Spending(state_dir, gate, is_delta=is_delta)

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
