# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds the agent's parts, wires them, starts and stops them.

Owns the order of start and stop, and the supervising thread. It decides nothing: what
serves is decided in ``deployment``, what is counted in ``stats``, what is sent in
``telemetry``, what is installed in ``ota``.

A stop, by SIGTERM or at the end of a source, finishes the inference in hand, counts
what was recorded, and leaves a checkpoint that equals the produced counter.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil

from edge_agent.clock import Clock
from edge_agent.config import AgentConfig, Layers
from edge_agent.daemon.commands import MAX_DETAIL, CommandDesk, DeskRules
from edge_agent.daemon.deployment import Deployment, Serving
from edge_agent.daemon.identity import Identity
from edge_agent.daemon.status import LOCK_NAME, STATUS_SECONDS, write_status
from edge_agent.daemon.wanted import Refused, load_wanted
from edge_agent.daemon.wiring import open_sink, open_source
from edge_agent.enrol import load_device
from edge_agent.errors import AgentError, SinkError
from edge_agent.logs import set_up_logging
from edge_agent.ota.machine import UpdateRecord, build_report
from edge_agent.ota.slots import Slots
from edge_agent.ota.updater import Updater
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.session import Session
from edge_agent.stats.checkpoint import open_counter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_agent.store import StateLock
from edge_agent.telemetry.link import Link, LinkHandlers, LinkIdentity
from edge_agent.telemetry.outbox import Build, Outbox
from edge_agent.telemetry.publisher import URGENT_LANE
from edge_contract.errors import ConfigError, EdgeError
from edge_contract.messages import Birth, Event
from edge_contract.wire import Scalar

TICK_SECONDS: Final = 0.25
JOIN_SECONDS: Final = 30.0
_LOG = logging.getLogger(__name__)


class Agent:
    """One running agent.

    Args:
        layers: What it was told, and by whom.
        config_path: That file, for the processes that it starts.
        clock: The time.
        stack: Closes what the agent opens.

    Raises:
        EdgeError: Not enrolled, another agent runs here, or a part cannot be opened.
    """

    def __init__(
        self, layers: Layers, config_path: Path, clock: Clock, stack: ExitStack
    ) -> None:
        config = layers.resolve().config
        self._layers = layers
        state_dir = config.state_dir
        if len(config.models) > 1:
            msg = f"models: expected one, found {len(config.models)}"
            raise ConfigError(msg, next_step="leave the others out")
        self._config = config
        self._slot, self._told = config.pick()
        self._clock = clock
        self._device = load_device(state_dir)
        stack.enter_context(StateLock(state_dir / LOCK_NAME))
        self._outbox = Outbox(
            state_dir / "outbox.sqlite", config.outbox.max.bytes, clock
        )
        stack.callback(self._outbox.close)
        self._keeper = StatisticsKeeper(
            self._outbox.ledger(self._slot),
            stack.enter_context(open_counter(state_dir, self._slot)),
            clock,
            Periods(config.statistics.window.us, config.statistics.checkpoint.us),
        )
        slot = self._told
        self._sink = open_sink(slot)
        stack.callback(self._close_sink)
        self._source = open_source(slot, config.statistics.window.us, clock)
        self._session = Session(self._keeper, clock)
        self._loop = InferenceLoop(
            self._source, self._sink, self._session, self._keeper.finish_window
        )
        self._stop = threading.Event()
        self._identity = Identity(
            self._slot, self._session, clock, load_wanted(state_dir)
        )
        self._slots = Slots(state_dir)
        self._build_update(config, config_path)
        self._failed: BaseException | None = None
        self._complaint = ""
        self._inference = threading.Thread(target=self._infer, name="inference")

    def _build_update(self, config: AgentConfig, config_path: Path) -> None:
        program = [sys.executable, "-m", "edge_agent.cli"]
        told = ["--config", str(config_path), "--json"]
        self._updater = Updater(
            command=[*program, "update", *told],
            state_dir=config.state_dir,
            slots=self._slots,
            clock=self._clock,
            poll_us=config.update.poll.us,
            report=self._report_update,
            problem=self._report_problem,
        )
        self._desk = CommandDesk(
            DeskRules(
                state_dir=config.state_dir,
                consent=config.samples.consent,
                upload=[*program, "upload", *told],
                look_now=self._updater.check_now,
                look_within=self._updater.hint,
                introduce=self._introduce,
                judge=self._judge,
                apply=self._apply_wanted,
            ),
            self._identity,
        )
        self._link = Link(
            self._device,
            self._outbox,
            self._clock,
            LinkIdentity(self._identity.birth, self._identity.serving),
            LinkHandlers(
                self._desk.on_want, self._desk.on_command, self._desk.on_announce
            ),
        )
        self._desk.replies = self._link
        self._deployment = Deployment(
            self._session,
            self._updater,
            Serving(
                self._told.threads,
                self._told.device_profile,
                config.update.trial_inferences,
            ),
            lambda: self._source.features,
            self._link.publish_state,
        )

    def run(self) -> None:
        """Run until ``stop``, or until the source is exhausted.

        Raises:
            EdgeError: A part failed for good.
        """
        self._serve_what_is_committed()
        self._keeper.start()
        self._inference.start()
        self._link.start()
        try:
            self._supervise()
        finally:
            self._shut_down()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Have ``run`` return; safe in a signal handler."""
        self._stop.set()

    def _supervise(self) -> None:
        next_status = 0.0
        while not self._stop.wait(TICK_SECONDS):
            try:
                self._deployment.tick()
                self._desk.tick()
            except (EdgeError, OSError) as error:
                self._complain(error)
            if time.monotonic() >= next_status:
                next_status = time.monotonic() + STATUS_SECONDS
                self._flush_sink()
                self._write_status()

    def _shut_down(self) -> None:
        self._loop.stop()
        self._source.close()
        self._inference.join(JOIN_SECONDS)
        self._keeper.stop()
        self._desk.stop()
        self._updater.close()
        self._link.stop()
        self._write_status()
        _LOG.info("stopped after %d inferences", self._keeper.produced)

    def _infer(self) -> None:
        try:
            self._loop.run()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self._failed = error
        self._stop.set()

    def _serve_what_is_committed(self) -> None:
        for digest in (self._slots.active, self._slots.previous):
            if digest is None:
                continue
            try:
                self._deployment.start(self._slots.path(digest), digest)
            except (EdgeError, OSError) as error:
                _LOG.error("release %s cannot serve: %s", digest[:12], error)
            else:
                return
        _LOG.info("no model yet: waiting for an update")

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complaint:
            _LOG.warning("%s", error)
        self._complaint = str(error)

    def _report_update(self, record: UpdateRecord) -> None:
        build = build_report(record, self._slots.active, self._clock.wall_us())
        self._append(build)

    def _report_problem(self, problem: str) -> None:
        def build(boot_id: bytes, seq: int) -> Event:
            return Event(
                boot_id=boot_id,
                seq=seq,
                name="update.problem",
                severity="warning",
                time_us=self._clock.wall_us(),
                detail=problem[:MAX_DETAIL],
            )

        self._append(build)

    def _append(self, build: Build) -> None:
        try:
            self._outbox.append(URGENT_LANE, build)
        except AgentError as error:
            _LOG.warning("a report was dropped: %s", error)

    def _judge(self, config: Mapping[str, Scalar], generation: int) -> Refused:
        wanted = replace(self._layers, desired=config, generation=generation)
        return wanted.resolve().refused

    def _apply_wanted(self) -> None:
        wanted = self._identity.wanted
        self._layers = replace(
            self._layers, desired=wanted.config, generation=wanted.generation
        )
        config = self._layers.resolve().config
        set_up_logging(config.log.level)
        self._updater.poll_us = config.update.poll.us
        self._deployment.trial_inferences = config.update.trial_inferences

    def _introduce(self) -> None:
        def build(boot_id: bytes, seq: int) -> Birth:
            return replace(
                self._identity.birth(boot_id, seq),
                lowest_seq=self._outbox.lowest_seq,
                down_floor=self._outbox.down_floor,
            )

        self._outbox.replace_unsent(URGENT_LANE, "birth", build)

    def _flush_sink(self) -> None:
        with suppress(SinkError):  # the loop counts and logs it
            self._sink.flush()

    def _close_sink(self) -> None:
        try:
            self._sink.close()
        except SinkError as error:
            _LOG.warning("%s", error)

    def _write_status(self) -> None:
        try:
            write_status(self._config.state_dir, self._describe())
        except (OSError, AgentError) as error:
            _LOG.warning("the status was not written: %s", error)

    def _describe(self) -> dict[str, Any]:
        session, model = self._session, self._session.model
        return {
            "pid": os.getpid(),
            "fleet": self._device.fleet,
            "device": self._device.device,
            "time_us": self._clock.wall_us(),
            "state": "no model" if model is None else "serving",
            "serving": {} if model is None else {self._slot: model.digest},
            "model": None if model is None else model.manifest.name,
            "variant": None if model is None else model.variant.id,
            "trial": self._deployment.trial,
            "inferences": session.finite,
            "failed": session.failed,
            "produced": self._keeper.produced,
            "raw_bytes": session.raw_bytes,
            "open_inferences": self._keeper.open_inferences,
            "windows_closed": self._keeper.closed_windows,
            "windows_waiting": self._keeper.waiting_windows,
            "outbox_pending": self._outbox.pending,
            "connected": self._link.is_connected,
            "source_error": self._loop.source_error,
            "sink_errors": self._loop.sink_errors,
            "rss_bytes": psutil.Process().memory_info().rss,
        }
