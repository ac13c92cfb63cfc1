# SPDX-License-Identifier: Apache-2.0
"""How the agent keeps itself well: watchdog, stalls, limits, and the status file.

Owns the supervising loop and what follows from the rules in ``stall`` and ``limits``.
The watchdog of the service manager is fed only while every slot makes progress; a slot
that stands still has all stacks written to the log, once, and an event sent.
"""

import faulthandler
import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.config import AgentConfig
from edge_agent.daemon.limits import Change, Limit, LimitWatch
from edge_agent.daemon.notify import Notifier
from edge_agent.daemon.reports import Reporter
from edge_agent.daemon.slot import ModelSlot
from edge_agent.daemon.stall import StallWatch
from edge_agent.daemon.status import STATUS_SECONDS, summarise, write_status
from edge_agent.errors import AgentError
from edge_agent.flow import Gauges
from edge_agent.runtime.shadow import ShadowTally
from edge_contract.errors import EdgeError
from edge_contract.wire import Scalar

TICK_SECONDS: Final = 0.25
SHADOW_US: Final = 3_600_000_000
_BLOCK_BYTES: Final = 512
_LOG = logging.getLogger(__name__)


class Supervisor:
    """Looks after the slots, a few times a second.

    Args:
        config: What the agent was told.
        slots: Its slots.
        clock: The time.
        gauges: How process and machine fare.
        reporter: Tells of what should not wait.
        notifier: The service manager.
        status: Returns the status.
    """

    def __init__(  # noqa: PLR0913 - the composition point of what keeps the agent well
        self,
        *,
        config: AgentConfig,
        slots: Mapping[str, ModelSlot],
        clock: Clock,
        gauges: Gauges,
        reporter: Reporter,
        notifier: Notifier,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._state_dir = config.state_dir
        self._slots = slots
        self._clock = clock
        self._gauges = gauges
        self._reporter = reporter
        self._notifier = notifier
        self._status = status
        self._stalls = StallWatch(config.watchdog.stall.us)
        self._limits = LimitWatch(config.limits)
        self._complaint = ""
        self._next_us = 0
        self._shadows_us = clock.monotonic_us() + SHADOW_US
        self._fed_us = 0
        self._before: dict[str, Any] = {}
        self.wants_restart = False

    def ready(self) -> None:
        """Tell the service manager that the agent is ready."""
        self._notifier.ready()
        self._write_status()

    def model_changed(self) -> None:
        """Hear that another model serves: memory is judged anew."""
        self._limits.settle_anew()

    def run(self, stop: threading.Event, tick: Callable[[], None]) -> None:
        """Look after everything until ``stop``, or until a start anew is needed.

        Args:
            stop: Ends it.
            tick: Called a few times a second; its errors are logged, once each.
        """
        while not stop.wait(TICK_SECONDS) and not self.wants_restart:
            try:
                tick()
            except (EdgeError, OSError) as error:
                self._complain(error)
            now_us = self._clock.monotonic_us()
            self._watch(now_us)
            for slot in self._slots.values():
                slot.look(now_us)
            if now_us >= self._shadows_us:
                self._shadows_us = now_us + SHADOW_US
                self._report_shadows()
            if now_us >= self._next_us:
                self._next_us = now_us + int(STATUS_SECONDS * 1e6)
                self._look_at_limits(now_us)
                for slot in self._slots.values():
                    slot.flush_sink()
                self._write_status()

    def finish(self) -> None:
        """Leave the last status."""
        self._write_status()

    def _watch(self, now_us: int) -> None:
        pulses = {name: slot.pulse for name, slot in self._slots.items()}
        for name in self._stalls.look(pulses, now_us):
            _LOG.error("models.%s stands still; all stacks:\n%s", name, dump_stacks())
            detail = f"models.{name}: no progress while work is pending"
            self._reporter.event("stall", "error", detail, {"slot": name})
        is_due = self._notifier.watchdog_us and now_us >= self._fed_us
        if is_due and self._stalls.may_feed(pulses):
            self._fed_us = now_us + self._notifier.watchdog_us // 4
            self._notifier.alive()

    def _look_at_limits(self, now_us: int) -> None:
        readings = self._gauges.read()
        used = measure_folder(self._state_dir)
        for change in self._limits.look(readings, used, now_us):
            self._act(change)
        for slot in self._slots.values():
            slot.rest(shadow=self._limits.shadows_rest, loop=self._limits.loops_rest)
        if self._limits.wants_restart:
            self._reporter.event(
                "limit.restart", "warning", "memory has grown: the agent starts anew"
            )
            self.wants_restart = True

    def _report_shadows(self) -> None:
        for name, slot in self._slots.items():
            if slot.shadow is not None:
                fields = describe_shadow(name, slot.shadow.tally)
                detail = "{disagreements} of {inferences} differ".format(**fields)
                self._reporter.event("shadow", "info", detail, fields)

    def _act(self, change: Change) -> None:
        severity: Any = "warning" if change.is_passed else "info"
        self._reporter.event(f"limit.{change.limit.value}", severity, change.detail)
        if change.limit is Limit.DISK and change.is_passed:
            for slot in self._slots.values():
                slot.tidy()

    def _write_status(self) -> None:
        try:
            status = self._status()
            write_status(self._state_dir, status)
            self._notifier.status(summarise(status, self._before))
            self._before = status
        except (OSError, AgentError) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complaint:
            _LOG.warning("%s", error)
        self._complaint = str(error)


def describe_shadow(slot: str, tally: ShadowTally) -> dict[str, Scalar]:
    """Return what a shadow did as the fields of an event; counts since the start.

    >>> found = describe_shadow("main", ShadowTally("ab", 9, 2, 0, 1, 50.4, False))
    >>> found["disagreements"], found["latency_us"]
    (2, 50)
    """
    return {
        "slot": slot,
        "digest": tally.digest,
        "inferences": tally.inferences,
        "disagreements": tally.disagreements,
        "failed": tally.failed,
        "passed_over": tally.passed_over,
        "latency_us": round(tally.latency_us),
    }


def dump_stacks() -> str:
    """Return the stack of every thread, as far as it can be walked."""
    with tempfile.TemporaryFile() as stream:
        faulthandler.dump_traceback(file=stream, all_threads=True)
        stream.seek(0)
        return stream.read().decode("utf-8", "replace")


def measure_folder(folder: Path) -> int:
    """Return how many bytes the files below a folder take; what vanishes is skipped."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * _BLOCK_BYTES
        except OSError:
            continue
    return total
