# SPDX-License-Identifier: Apache-2.0
"""One slot: a model with its source, sinks, statistics, releases and shadow.

Owns their composition and the slot's two threads: one infers, the other brings
releases in. Slots know nothing of each other; what they share is in ``House``.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.config import AgentConfig, SlotConfig
from edge_agent.daemon.deployment import Deployment, Updates
from edge_agent.daemon.feedback import Feedback
from edge_agent.daemon.loading import Loader, LoadRules, probe_limits
from edge_agent.daemon.local import LocalRules, LocalUpdates
from edge_agent.daemon.proving import Instruments
from edge_agent.daemon.releases import ReleaseWorker
from edge_agent.daemon.reports import Reporter
from edge_agent.daemon.requests import SlotRequests
from edge_agent.daemon.sensors import Sensors, promised_rate
from edge_agent.daemon.stall import Pulse
from edge_agent.daemon.wiring import account_of, open_sink, open_source
from edge_agent.errors import SinkError
from edge_agent.flow import Gauges, Int64, Watcher
from edge_agent.ota.machine import UpdateRecord, build_report
from edge_agent.ota.slots import Slots, open_slot
from edge_agent.ota.trial import TrialLimits
from edge_agent.ota.updater import Updater
from edge_agent.probe import Proof, run_selftest, selftest_command
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.marks import Marks
from edge_agent.runtime.model import Model, load_bundle
from edge_agent.runtime.sampler import Sampler
from edge_agent.runtime.session import Session
from edge_agent.runtime.shadow import Shadow
from edge_agent.stats.checkpoint import open_counter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_agent.telemetry.outbox import Outbox
from edge_contract import evidence
from edge_contract.bundle import Bundle
from edge_contract.operations import latency_quantile_us

JOIN_SECONDS: Final = 30.0
QUANTILES: Final = (50, 95, 99)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class House:
    """What all slots of an agent share.

    Attributes:
        config: What the agent was told.
        program: Given a verb, the command line that runs it with this configuration.
        clock: The time.
        outbox: Takes windows and reports.
        gauges: What windows tell of the machine.
        reporter: Tells of what should not wait.
        on_change: Called after another release serves in a slot.
        on_end: Called when a slot's source is exhausted, or its loop has failed.
    """

    config: AgentConfig
    program: Callable[[str], Sequence[str]]
    clock: Clock
    outbox: Outbox
    gauges: Gauges
    reporter: Reporter
    on_change: Callable[[], None]
    on_end: Callable[[], None]


class ModelSlot:
    """One model of the agent, as a whole.

    Args:
        name: The slot's name.
        told: What it was told.
        house: What it shares.
        stack: Closes what it opens.

    Raises:
        EdgeError: A part cannot be opened.
        OSError: The disk refused.
    """

    def __init__(
        self, name: str, told: SlotConfig, house: House, stack: ExitStack
    ) -> None:
        config = house.config
        self.name = name
        self._told = told
        self._house = house
        self._folder = open_slot(config.state_dir, name)
        self.slots = Slots(self._folder)
        self.keeper = StatisticsKeeper(
            house.outbox.ledger(name),
            stack.enter_context(open_counter(config.state_dir, name)),
            house.clock,
            Periods(config.statistics.window.us, config.statistics.checkpoint.us),
            house.gauges,
            config.privacy.epsilon_millionths,
        )
        self.sensors = Sensors(
            name,
            self._folder,
            lambda: self.keeper.seen,
            promised_rate(told),
            house.reporter,
        )
        self._sink = open_sink(told)
        stack.callback(self._close_sink)
        self._source = open_source(told, config.statistics.window.us, house.clock)
        self.shadow = self._make_shadow()
        self.feedback = self._make_feedback(stack)
        self.sampler, self.marks = Sampler(), Marks(self._folder)
        self.session = Session(self.keeper, house.clock, self._watchers(), self.marks)
        self.requests = SlotRequests(
            *(name, self._folder, self.session, self.sampler, self.marks),
            feedback=self.feedback,
            clock=house.clock,
        )
        self.loop = InferenceLoop(
            self._source,
            self._sink,
            self.session,
            self.keeper.finish_window,
            self.marks,
        )
        self._limits = probe_limits(told)
        rules = LoadRules(
            told.threads, told.device_profile, self._limits, self._probe_command
        )
        self._loader = Loader(self._folder, rules)
        local = self._make_local()
        self._updater: Updater | None = None
        if local is None:
            self._updater = self._make_updater()
            self.deployment = self._make_deployment(self._updater)
        else:
            self.deployment = self._make_deployment(local)
        self.keeper.comparison.tally = self._compare
        self.failed: BaseException | None = None
        self.is_ended = False
        self.releases = ReleaseWorker(
            name, self.slots, self.deployment, local, self._tell_refused
        )
        self._is_stopping = False
        self._inference = threading.Thread(target=self._infer, name=f"inference-{name}")

    def start(self) -> None:
        """Start to count, to bring releases in, and to infer."""
        self.requests.tidy()
        self.keeper.start()
        self.releases.start()
        self._inference.start()
        if self.shadow is not None:
            self.shadow.start()

    def stop(self) -> None:
        """Finish the inference in hand, count what was recorded, and end."""
        self._is_stopping = True
        self.loop.stop()
        self._source.close()
        self.releases.stop()
        if self._inference.is_alive():
            self._inference.join(JOIN_SECONDS)
        if self.shadow is not None:
            self.shadow.stop()
        self.keeper.stop()
        if self._updater is not None:
            self._updater.close(is_clean=self.failed is None)

    def flush_sink(self) -> None:
        """Write what the sink buffers; the loop counts and logs its errors."""
        with suppress(SinkError):
            self._sink.flush()

    def check_now(self) -> None:
        """Have the fleet's updates looked for at once."""
        if self._updater is not None:
            self._updater.check_now()

    def hint(self, spread_seconds: int) -> None:
        """Have them looked for within so many seconds."""
        if self._updater is not None:
            self._updater.hint(spread_seconds)

    def pace(self, config: AgentConfig) -> None:
        """Take over what of a configuration works while the agent runs."""
        self.deployment.limits = self._trial_limits(config)
        if self._updater is not None:
            self._updater.poll_us = config.update.poll.us

    def tidy(self) -> None:
        """Delete releases that nothing points at and that no update waits for."""
        record = None if self._updater is None else self._updater.record
        self.slots.collect(record.digest if record and record.is_open else None)

    def look(self, now_us: int) -> None:
        """Look at sensors, labels and requests; called a few times a second."""
        self.sensors.look(now_us)
        self.requests.look(now_us)
        if self.feedback is not None:
            self.feedback.look(now_us)

    def rest(self, *, shadow: bool, loop: bool) -> None:
        """Have shadow and loop rest, or work again."""
        self.loop.is_resting = loop
        self.deployment.rest(is_resting=shadow)
        if self.shadow is not None:
            self.shadow.is_resting = shadow

    @property
    def model(self) -> Model | None:
        """The model that serves."""
        return self.session.model

    @property
    def pulse(self) -> Pulse:
        """What the slot did so far."""
        session = self.session
        return Pulse(
            turns=self.loop.turns,
            is_looping=self._inference.is_alive() and not self._is_stopping,
            done=session.finite + session.failed,
            is_busy=session.is_busy,
        )

    def describe(self) -> dict[str, Any]:
        """Return how the slot fares, for the status file."""
        session, model = self.session, self.session.model
        counts, sum_ns = self.keeper.latency
        shadow = None if self.shadow is None else asdict(self.shadow.tally)
        card = session.card
        return {
            "state": "no model" if model is None else "serving",
            "digest": None if model is None else model.digest,
            "model": None if model is None else model.manifest.name,
            "variant": None if model is None else model.variant.id,
            "runtime": None if card is None else card.runtime,
            "runtime_version": None if card is None else card.runtime_version,
            "kernels": None if card is None else card.kernels,
            "trial": self.deployment.trial,
            "trying": self.deployment.shadow,
            "update": None if self._updater is None else self._updater.describe(),
            "latency_us": _quantiles(counts),
            "latency_counts": counts.tolist(),
            "latency_sum_ns": sum_ns,
            "inferences": session.finite,
            "failed": session.failed,
            "produced": self.keeper.produced,
            "raw_bytes": session.raw_bytes,
            "open_inferences": self.keeper.open_inferences,
            "windows_closed": self.keeper.closed_windows,
            "windows_waiting": self.keeper.waiting_windows,
            "source_error": self.loop.source_error,
            "sink_errors": self.loop.sink_errors,
            "source": account_of(self._source),
            "sinks": account_of(self._sink),
            "shadow": shadow,
            "sensor_faults": self.sensors.faults,
            "feedback": None if self.feedback is None else self.feedback.describe(),
            **self.requests.describe(),
        }

    def _infer(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self.failed = error
        self.is_ended = True
        self._house.on_end()

    def _make_local(self) -> LocalUpdates | None:
        told = self._told
        if told.bundle is None:
            return None
        rules = LocalRules(told.bundle, told.trust, self._judge, self._tell_refused)
        return LocalUpdates(self._folder, self.slots, rules, self._house.clock)

    def _make_updater(self) -> Updater:
        return Updater(
            command=[*self._house.program("update"), f"--slot={self.name}"],
            folder=self._folder,
            slots=self.slots,
            clock=self._house.clock,
            poll_us=self._house.config.update.poll.us,
            report=self._report_update,
            problem=lambda text: self._house.reporter.event(
                "update.problem", "warning", text
            ),
        )

    def _make_deployment(self, updates: Updates) -> Deployment:
        house = self._house
        deployment = Deployment(
            self.session,
            updates,
            self._loader,
            house.clock,
            house.on_change,
        )
        deployment.limits = self._trial_limits(house.config)
        deployment.instruments = Instruments(
            latency=self._count_latency,
            rss_bytes=lambda: house.gauges.read().rss_bytes,
            share=house.config.update.compare.fraction,
        )
        deployment.features = lambda: self._source.features
        deployment.is_asked_only = self._told.source is None
        return deployment

    def _watchers(self) -> list[Watcher]:
        found: list[Watcher] = [self.sampler]
        if self.shadow is not None:
            found.append(self.shadow)
        if self.feedback is not None:
            found.append(self.feedback.book)
        return found

    def _compare(self) -> evidence.Shadow | None:
        """Return what the shadow made of all inputs so far, for the windows.

        A release of the fleet's comes before a shadow of the device's own.
        """
        tally = self.deployment.shadow_tally
        if tally is None and self.shadow is not None:
            tally = self.shadow.tally
        if tally is None or not tally.digest:
            return None
        release = bytes.fromhex(tally.digest)[:8]
        disagreed = min(tally.disagreements, tally.inferences)
        return evidence.Shadow(release, tally.inferences, disagreed)

    def _make_feedback(self, stack: ExitStack) -> Feedback | None:
        if self._told.feedback is None:
            return None
        return Feedback(
            self.name,
            self._told.feedback,
            model=lambda: self.session.model,
            keeper=self.keeper,
            clock=self._house.clock,
            reporter=self._house.reporter,
            stack=stack,
        )

    def _trial_limits(self, config: AgentConfig) -> TrialLimits:
        told = config.update
        return TrialLimits(
            inferences=told.trial_inferences,
            seconds=told.trial.seconds,
            max_p95_percent=told.max_p95_percent,
            max_memory_bytes=self._told.memory.bytes,
            min_confidence_percent=told.min_confidence_percent,
            max_disagreement_percent=told.max_disagreement_percent,
        )

    def _count_latency(self) -> Int64:
        """Return all latencies so far; what was recorded is counted first."""
        self.keeper.flush()
        return self.keeper.latency[0]

    def _make_shadow(self) -> Shadow | None:
        told = self._told.shadow
        if told is None:
            return None
        return Shadow(lambda: self._load_shadow(told.bundle), told.cpu.fraction)

    def _load_shadow(self, bundle: Path) -> Model:
        """Verify, probe and load a copy: nobody can exchange it in between."""
        copy = self._folder / "shadow.bundle"
        shutil.copyfile(bundle, copy)
        self._judge(copy)
        with Bundle.open(copy) as opened:
            return load_bundle(opened, device_profile=self._told.device_profile)

    def _judge(self, path: Path) -> Proof:
        """Verify and probe a bundle that came without the fleet."""
        told = self._told
        trust = [f"--trust={one}" for one in told.trust]
        trust = trust or [f"--enrolled={self._house.config.state_dir}"]
        return run_selftest([*self._probe_command(path), *trust], self._limits)

    def _probe_command(self, path: Path) -> list[str]:
        told = self._told
        return selftest_command(
            path,
            device_profile=told.device_profile,
            threads=told.threads,
            limits=self._limits,
        )

    def _tell_refused(self, problem: str) -> None:
        fields = {"slot": self.name}
        self._house.reporter.event("model.refused", "error", problem, fields)

    def _report_update(self, record: UpdateRecord) -> None:
        time_us = self._house.clock.wall_us()
        self._house.reporter.append(build_report(record, self.slots.active, time_us))

    def _close_sink(self) -> None:
        try:
            self._sink.close()
        except SinkError as error:
            _LOG.warning("%s", error)


def _quantiles(counts: Int64) -> dict[str, float] | None:
    """Return the usual quantiles of a histogram, in microseconds."""
    if not counts.any():
        return None
    return {
        f"p{share}": round(latency_quantile_us(counts, share / 100), 2)
        for share in QUANTILES
    }
