# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds the agent's parts, wires them, starts and stops them.

Owns the order of start and stop. It decides nothing: what serves is decided in
``deployment``, what is counted in ``stats``, what is sent in ``telemetry``, what is
installed in ``ota``, and how the agent keeps itself well in ``supervision``.

A stop, by SIGTERM or at the end of all sources, finishes the inferences in hand, counts
what was recorded, and leaves checkpoints that equal the produced counters.
"""

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.config import AgentConfig, Layers
from edge_agent.config.layers import LIVE_KEYS
from edge_agent.daemon.commands import CommandDesk, DeskRules
from edge_agent.daemon.forgeries import ForgeryWatch
from edge_agent.daemon.gauges import SystemGauges
from edge_agent.daemon.identity import Identity
from edge_agent.daemon.ledger import open_outbox
from edge_agent.daemon.notify import Notifier
from edge_agent.daemon.reports import Reporter
from edge_agent.daemon.repository import SlotRepository
from edge_agent.daemon.slot import House, ModelSlot
from edge_agent.daemon.status import LOCK_NAME, LinkStatus, describe
from edge_agent.daemon.supervision import Supervisor
from edge_agent.daemon.wanted import Refused, load_wanted
from edge_agent.daemon.wiring import open_service
from edge_agent.device import load_device
from edge_agent.errors import AgentError, NotEnrolledError
from edge_agent.logs import set_level
from edge_agent.store import StateLock
from edge_agent.telemetry.link import Link, LinkHandlers, LinkIdentity
from edge_agent.telemetry.publisher import URGENT_LANE
from edge_contract.enrolment import Enrolment
from edge_contract.errors import EdgeError
from edge_contract.messages import Birth
from edge_contract.wire import Scalar

READY_SECONDS: Final = 30.0
_LOG = logging.getLogger(__name__)


class Agent:
    """One running agent.

    Args:
        layers: What it was told, and by whom.
        program: Given a verb, the command line that runs it with the same
            configuration.
        clock: The time.
        notifier: The service manager.
        stack: Closes what the agent opens.

    Raises:
        EdgeError: Not enrolled, another agent runs here, or a part cannot be opened.
    """

    def __init__(
        self,
        layers: Layers,
        program: "Program",
        clock: Clock,
        notifier: Notifier,
        stack: ExitStack,
    ) -> None:
        config = layers.resolve().config
        state_dir = config.state_dir
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._layers = layers
        self._clock = clock
        self._notifier = notifier
        self._device = find_device(config)
        stack.enter_context(StateLock(state_dir / LOCK_NAME))
        self._outbox, damage = open_outbox(state_dir, config.outbox.max.bytes, clock)
        stack.callback(self._outbox.close)
        self._stop = threading.Event()
        self._reread: Callable[[], Layers] | None = None
        self._gauges = SystemGauges(state_dir, clock, lambda: self._outbox.pending)
        self._reporter = Reporter(self._outbox, clock)
        if damage:
            self._reporter.event("outbox.damaged", "error", damage)
        house = House(
            config=config,
            program=program.command,
            clock=clock,
            outbox=self._outbox,
            gauges=self._gauges,
            reporter=self._reporter,
            on_change=self._on_change,
            on_end=self._on_end,
        )
        self.slots = {
            name: ModelSlot(name, told, house, stack)
            for name, told in config.models.items()
        }
        self.repository = SlotRepository(self.slots)
        self._identity = Identity(self.slots, clock, load_wanted(state_dir))
        self._service = open_service(
            config.service, self.repository, self.describe, clock
        )
        self._link: Link | None = None
        self._desk: CommandDesk | None = None
        self._forgeries = ForgeryWatch()
        if self._device is not None:
            self._connect(self._device, config, program)
        self.supervisor = Supervisor(
            config=config,
            slots=self.slots,
            clock=clock,
            gauges=self._gauges,
            reporter=self._reporter,
            notifier=notifier,
            status=self.describe,
        )

    @property
    def wants_restart(self) -> bool:
        """Whether ``run`` returned so that the agent starts anew."""
        return self.supervisor.wants_restart

    def run(self) -> None:
        """Run until ``stop``, until every source is exhausted, or for a start anew.

        Raises:
            EdgeError: A part failed for good.
        """
        # From the first thread on, whatever fails must end all of them: a process that
        # serves nothing and does not end is what no service manager can help.
        try:
            for slot in self.slots.values():
                slot.start()
            # A birth names what serves: not to be written before something does.
            for slot in self.slots.values():
                slot.releases.await_settled(READY_SECONDS)
            if self._link is not None:
                self._link.start()
            if self._service is not None:
                self._service.start()
            self.supervisor.ready()
            self.supervisor.run(self._stop, self._tick)
        finally:
            self._shut_down()
        for slot in self.slots.values():
            if slot.failed is not None:
                raise slot.failed

    def stop(self) -> None:
        """Have ``run`` return; safe in a signal handler."""
        self._stop.set()

    def describe(self) -> dict[str, Any]:
        """Return the status."""
        try:
            pending = self._outbox.pending
        except AgentError:
            pending = None  # the outbox cannot be read now; the log says why
        link = LinkStatus()
        if self._link is not None:
            link = LinkStatus(self._link.is_connected, self._link.refused)
        return describe(
            {name: slot.describe() for name, slot in self.slots.items()},
            device=self._device,
            time_us=self._clock.wall_us(),
            pending=pending,
            link=link,
            readings=self._gauges.read(),
        )

    def _tick(self) -> None:
        read, self._reread = self._reread, None
        if read is not None:
            self._reload(read)
        if self._desk is not None:
            self._desk.tick()
        if self._link is not None:
            self._tell_of_forgeries(self._link.refused)

    def _tell_of_forgeries(self, refused: Mapping[str, int]) -> None:
        news = self._forgeries.look(refused, self._clock.monotonic_us())
        if news:
            words = ", ".join(f"{code} {count}" for code, count in news.items())
            detail = f"{sum(news.values())} down messages were refused: {words}"
            self._reporter.event("link.refused", "warning", detail, news)

    def _shut_down(self) -> None:
        self._notifier.stopping()
        if self._service is not None:
            self._service.stop()
        for slot in self.slots.values():
            slot.stop()
        if self._desk is not None:
            self._desk.stop()
        if self._link is not None:
            self._link.stop()
        self.supervisor.finish()
        produced = sum(one.keeper.produced for one in self.slots.values())
        _LOG.info("stopped after %d inferences", produced)

    def _connect(
        self, device: Enrolment, config: AgentConfig, program: "Program"
    ) -> None:
        rules = DeskRules(
            state_dir=config.state_dir,
            consent=config.samples.consent,
            upload=program.command("upload"),
            look_now=self._look_now,
            look_within=self._look_within,
            introduce=self._introduce,
            judge=self._judge,
            apply=self._apply_wanted,
            slots={name: one.requests for name, one in self.slots.items()},
        )
        self._desk = CommandDesk(rules, self._identity)
        self._link = Link(
            device,
            self._outbox,
            self._clock,
            LinkIdentity(self._identity.birth, self._identity.serving),
            LinkHandlers(
                self._desk.on_want, self._desk.on_command, self._desk.on_announce
            ),
        )
        self._desk.replies = self._link

    def _judge(self, config: Mapping[str, Scalar], generation: int) -> Refused:
        wanted = replace(self._layers, desired=config, generation=generation)
        return wanted.resolve().refused

    def _reload(self, read: Callable[[], Layers]) -> None:
        self._notifier.reloading(self._clock.monotonic_us())
        try:
            layers = read()
            waiting = find_waiting(self._layers, layers)
            self._apply(layers)
        except EdgeError as error:
            _LOG.error("the configuration is not taken over: %s", error)
        else:
            _LOG.info("configuration read again; for a start: %s", waiting or "none")
        self._notifier.ready()

    def _apply_wanted(self) -> None:
        wanted = self._identity.wanted
        self._apply(
            replace(self._layers, desired=wanted.config, generation=wanted.generation)
        )

    def _apply(self, layers: Layers) -> None:
        """Take over what works while the agent runs."""
        config = layers.resolve().config
        self._layers = layers
        set_level(config.log.level)
        for slot in self.slots.values():
            slot.pace(config)

    def reload(self, read: Callable[[], Layers]) -> None:
        """Have the configuration read again; safe in a signal handler."""
        self._reread = read

    def _look_now(self) -> None:
        for slot in self.slots.values():
            slot.check_now()

    def _look_within(self, spread_seconds: int) -> None:
        for slot in self.slots.values():
            slot.hint(spread_seconds)

    def _introduce(self) -> None:
        def build(boot_id: bytes, seq: int) -> Birth:
            return replace(
                self._identity.birth(boot_id, seq),
                lowest_seq=self._outbox.lowest_seq,
                down_floor=self._outbox.down_floor,
            )

        self._outbox.replace_unsent(URGENT_LANE, "birth", build)

    def _on_change(self) -> None:
        self.supervisor.model_changed()
        if self._link is not None:
            self._link.publish_state()

    def _on_end(self) -> None:
        """A loop ended: so does the agent, when it was the last or has failed."""
        slots = self.slots.values()
        is_over = self._service is None and all(one.is_ended for one in slots)
        if is_over or any(one.failed for one in slots):
            self._stop.set()


class Program:
    """How the agent starts processes of its own kind.

    Args:
        config_path: The configuration file.
        flags: The ``--set`` that it was started with.
    """

    def __init__(self, config_path: Path, flags: Sequence[str]) -> None:
        self._told = [f"--config={config_path}", *(f"--set={one}" for one in flags)]

    def command(self, verb: str) -> list[str]:
        """Return the command line of a verb; it answers with one JSON document."""
        return [sys.executable, "-m", "edge_agent.cli", verb, *self._told, "--json"]


def find_waiting(before: Layers, after: Layers) -> list[str]:
    """Return the keys that changed and work from the next start on only."""
    old = {one.key: one.value for one in before.explain()}
    new = {one.key: one.value for one in after.explain()}
    changed = [key for key in old | new if old.get(key) != new.get(key)]
    return sorted(set(changed) - set(LIVE_KEYS))


def find_device(config: AgentConfig) -> Enrolment | None:
    """Return what the device is enrolled as; None: it serves its own files alone.

    Raises:
        NotEnrolledError: A slot waits for a fleet that the device does not belong to.
        EnrolmentError: The enrolment is damaged.
    """
    try:
        return load_device(config.state_dir)
    except NotEnrolledError:
        if any(one.bundle is None for one in config.models.values()):
            raise
    _LOG.info("not enrolled: the agent serves alone")
    return None
