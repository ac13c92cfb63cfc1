# SPDX-License-Identifier: Apache-2.0
"""The keeper: takes observations from the hot path and accounts for each of them.

Owns the order of things that makes windows exact (docs/spec/windows.md, "Exactness"):
the produced counter moves before an observation is published to the ring, a window is
closed together with the checkpoint that follows it in one transaction, and a clean stop
leaves a checkpoint that equals the counter. Counting runs in a thread of its own; the
hot path waits for it only when the ring is full.

A ledger that refuses (a full disk) stops nothing: closed windows wait in memory, and no
checkpoint passes them, so that a kill then declares them lost.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from edge_agent.clock import Clock
from edge_agent.errors import AgentError
from edge_agent.flow import Float32, Gauges, Grid, Int64
from edge_agent.stats.accumulator import (
    RELEASE_BYTES,
    Accumulator,
    Window,
    with_lost,
    with_operations,
)
from edge_agent.stats.checkpoint import Checkpoint, ProducedCounter, recover
from edge_agent.stats.closing import ClosedWindow, is_tellable
from edge_agent.stats.comparison import Comparison
from edge_agent.stats.feedback import Verdict
from edge_agent.stats.meter import Meter
from edge_agent.stats.noise import LEAST_INFERENCES, Noise
from edge_agent.stats.ring import MAX_SLOTS, Ring, Slot
from edge_agent.stats.rules import Seen
from edge_contract.evidence import Feedback
from edge_contract.messages import UpMessage
from edge_contract.operations import Operations
from edge_contract.profile import CONFIDENCE_BINS, Layout, ReferenceProfile

MAX_BACKLOG: Final = 1024
COUNT_SECONDS: Final = 1.0
THINNED_US: Final = 50_000
_LOG = logging.getLogger(__name__)


class Ledger(Protocol):
    """Where a slot's closed windows and checkpoints become durable; the outbox."""

    def close_window(
        self, build: Callable[[bytes, int], UpMessage], checkpoint: bytes
    ) -> int:
        """Store a window and the checkpoint after it in one transaction."""

    def save_checkpoint(self, checkpoint: bytes) -> None:
        """Replace the checkpoint."""

    def load_checkpoint(self) -> bytes | None:
        """Return the checkpoint, or None."""

    def remember_layout(self, ref_id: bytes, layout: Layout) -> None:
        """Keep how counts under a reference profile are laid out."""


@dataclass(frozen=True, slots=True)
class Periods:
    """How long a window is in event time, and how often the open one is made durable.

    Both in microseconds.
    """

    window_us: int
    checkpoint_us: int


@dataclass(slots=True, eq=False)
class _Lane:
    """One release's way: from the ring into windows."""

    ring: Ring
    accumulator: Accumulator


class StatisticsKeeper:
    """Accounts for every inference of one slot; the production ``Observer``.

    ``record`` and a switch are called by one thread at a time; the rest by any.

    Args:
        ledger: Takes windows and checkpoints of the slot.
        counter: The slot's produced counter, of the same state folder.
        clock: Stamps closed windows.
        periods: When windows close and checkpoints are due.
        gauges: What else a window tells of; None: of inferences alone.
        epsilon_millionths: Privacy loss of an inference; 0: exact counts are told.

    Attributes:
        comparison: What a shadow makes of the same inputs; told with each window.
    """

    def __init__(
        self,
        ledger: Ledger,
        counter: ProducedCounter,
        clock: Clock,
        periods: Periods,
        gauges: Gauges | None = None,
        epsilon_millionths: int = 0,
    ) -> None:
        self._ledger = ledger
        self._counter = counter
        self._cell = counter.cell
        self._clock = clock
        self._periods = periods
        self.comparison = Comparison()
        self._epsilon_millionths = epsilon_millionths
        self._meter = Meter(gauges, clock)
        stored = ledger.load_checkpoint()
        found = Checkpoint() if stored is None else Checkpoint.decode(stored)
        recovered = recover(found, counter.value)
        if recovered.lost:
            _LOG.warning("%d inferences were lost in a kill", recovered.lost)
        counter.value = recovered.produced
        self._produced = recovered.produced
        self._lost = recovered.lost
        self._resumable = recovered.window
        is_open = 0 if self._resumable is None else self._resumable.produced
        self._closed_total = recovered.produced - recovered.lost - is_open
        self._stored_windows = recovered.closed_windows
        self._latency = Operations().latency
        self._latency_ns = 0
        self._backlog: deque[ClosedWindow] = deque()
        self._in_hand: ClosedWindow | None = None  # the ledger has it; do not forget it
        # The one that is counted, and those that it was switched to since.
        self._lane: _Lane | None = None
        self._next: deque[_Lane] = deque()
        self._held: deque[Slot] | None = None
        self._most = self._most_lent = self._lent = 0
        self._is_thinned = False
        self._seen_us = 0
        self._end_us = 0
        self._lock = threading.RLock()  # held for counting: never for long
        self._storing = threading.RLock()  # held for the ledger; taken first
        self._wake = threading.Event()
        self._is_woken = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="statistics")

    @property
    def produced(self) -> int:
        """Inferences ever made with this state folder."""
        return self._produced

    @property
    def waiting_windows(self) -> int:
        """Closed windows that the ledger has not taken yet."""
        return len(self._backlog)

    @property
    def closed_windows(self) -> int:
        """Windows ever closed with this state folder."""
        return self._stored_windows + len(self._backlog)

    @property
    def open_inferences(self) -> int:
        """Inferences that no closed window accounts for yet."""
        with self._lock:
            return self._produced - self._closed_total

    @property
    def seen(self) -> Seen | None:
        """What the release that serves has seen; None while none does."""
        with self._lock:
            return None if self._lane is None else self._lane.accumulator.seen

    @property
    def latency(self) -> tuple[Int64, int]:
        """Latencies of all inferences since the start, by bucket, and their sum in ns.

        See ``edge_contract.operations`` for the buckets.
        """
        with self._lock:
            lane = self._lane
            is_open = None if lane is None else lane.accumulator.open_window
            found = self._latency
            if is_open is not None:
                found = found + is_open.operations.latency
            return found, self._latency_ns

    def start(self) -> None:
        """Start the counting thread."""
        self._meter.sample()
        self._thread.start()

    def prepare(
        self,
        profile: ReferenceProfile,
        release: bytes,
        grid: Grid,
        reduce: Callable[[Float32], Float32] | None = None,
    ) -> Callable[[], None]:
        """Get ready to count for another release; see ``Observer.prepare``.

        The open window closes after the switch, unless this is a restart of the same
        release.
        """
        self._ledger.remember_layout(profile.ref_id, profile.layout)
        noise = self._make_noise(profile, grid, reduce)
        accumulator = Accumulator(
            profile,
            release[:RELEASE_BYTES],
            self._periods.window_us,
            lambda window: self._closed(window, noise),
            reduce,
            LEAST_INFERENCES if noise else 0,
        )
        ring = Ring(grid.length, grid.features, profile.output_width)
        lane = _Lane(ring, accumulator)

        def switch() -> None:
            self._next.append(lane)
            self._held = ring.held
            self._is_thinned = reduce is not None
            self._most = MAX_SLOTS if self._is_thinned else ring.slots
            self._most_lent, self._lent = ring.slots, 0
            self._wake_up()

        return switch

    def record(
        self,
        stream: str,
        is_start: bool,  # noqa: FBT001 - see Observer.record
        rows: Float32,
        times_us: Int64 | int,
        output: Float32 | None,
        latency_ns: int,
    ) -> None:
        """Copy one inference of the bound release into the ring."""
        held = self._held
        if held is None:
            msg = "observations need a bound release"
            raise RuntimeError(msg)
        if len(held) >= self._most:
            self._make_room()
        last_us = times_us if isinstance(times_us, int) else int(times_us[-1])
        seen = self._thinned(rows, last_us) if self._is_thinned else rows.copy()
        self._produced += 1
        self._cell[0] = self._produced
        held.append((stream, is_start, seen, times_us, output, latency_ns))
        if last_us >= self._end_us and not self._is_woken:
            self._wake_up()

    def _thinned(self, rows: Float32, time_us: int) -> Float32 | None:
        """Return a large frame as it is, one every ``THINNED_US`` of event time."""
        if 0 <= time_us - self._seen_us < THINNED_US:
            return None
        self._seen_us = time_us
        if self._lent >= self._most_lent:
            self._make_room()
        self._lent += 1
        return np.ascontiguousarray(rows)

    def _make_room(self) -> None:
        """Count here and now, all at once.

        A counting thread would share the interpreter's lock with the hot path all the
        while, and slow many inferences instead of one.
        """
        self._lent = 0
        with self._lock:
            self._count()

    def add_label(self, release: bytes, verdict: Verdict) -> None:
        """Count one label into the open window of the release that gave the answer.

        It is as durable as that window: see ``checkpoint``.

        Args:
            release: First 8 bytes of the release's digest.
            verdict: What the label says.
        """
        labels, errors = np.zeros((2, CONFIDENCE_BINS), dtype=np.int64)
        labels[verdict.confidence_bin] = 1
        errors[verdict.confidence_bin] = verdict.is_error
        with self._lock:
            self._count()
            lane = self._lane
            if lane is not None and lane.accumulator.release == release:
                lane.accumulator.add_label(verdict.time_us, Feedback(labels, errors))
                self._end_us = lane.accumulator.end_us or 0

    def flush(self) -> None:
        """Count all that was recorded, and store the windows that closed."""
        with self._lock:
            self._count()
        self._drain()

    def finish_window(self) -> None:
        """Close the open window now: the source is at its end."""
        with self._lock:
            self._count()
            if self._lane is not None and self._lane.accumulator.is_tellable:
                self._lane.accumulator.close()
                self._end_us = 0
        self._save()

    def checkpoint(self) -> None:
        """Count all that was recorded, and make it durable."""
        with self._lock:
            self._count()
        self._save()

    def stop(self) -> None:
        """End the thread and leave a checkpoint that equals the counter."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self.checkpoint()

    def _run(self) -> None:
        due_us = self._clock.monotonic_us() + self._periods.checkpoint_us
        while not self._stopping:
            left_us = due_us - self._clock.monotonic_us()
            self._wake.wait(min(max(0.0, left_us / 1e6), COUNT_SECONDS))
            self._wake.clear()
            self._is_woken = False
            self.flush()
            if self._clock.monotonic_us() >= due_us:
                self._meter.sample()
                self.checkpoint()
                due_us += self._periods.checkpoint_us

    def _wake_up(self) -> None:
        self._is_woken = True
        self._wake.set()

    def _count(self) -> None:
        """Count all that was recorded, and follow the switches; the lock is held."""
        lanes = len(self._next)  # what comes later has rows that come later
        self._count_lane()
        for _ in range(lanes):
            if self._lane is not None:
                self._lane.accumulator.close()
            self._lane = self._next.popleft()
            window, self._resumable = self._resumable, None
            if window is not None and not self._lane.accumulator.resume(window):
                self._closed(window)
            self._count_lane()
        if self._lane is not None:
            self._end_us = self._lane.accumulator.end_us or 0

    def _count_lane(self) -> None:
        if self._lane is not None:
            block = self._lane.ring.take()
            if block is not None:
                self._latency_ns += int(block.latencies_ns.sum())
                self._lane.accumulator.add(block)

    def _make_noise(
        self, profile: ReferenceProfile, grid: Grid, reduce: object
    ) -> Noise | None:
        epsilon = self._epsilon_millionths
        if not epsilon:
            return None
        rows = grid.length if reduce is None else 1
        return Noise(profile.layout, epsilon, rows)

    def _closed(self, window: Window, noise: Noise | None = None) -> None:
        self._latency = self._latency + window.operations.latency
        if self._epsilon_millionths and not is_tellable(window, noise):
            self._lost += window.produced
            return
        window = with_operations(with_lost(window, self._lost), self._meter.operations)
        self._lost = 0
        self._meter.restart()
        if window.is_empty:
            return
        self._closed_total += window.produced
        shadow = self.comparison.take()
        self._backlog.append(ClosedWindow(window, self._closed_total, noise, shadow))
        if len(self._backlog) > MAX_BACKLOG:
            oldest = int(self._backlog[0] is self._in_hand)
            forgotten = self._backlog[oldest]
            del self._backlog[oldest]
            heir = self._backlog[oldest]
            heir.window = with_lost(heir.window, forgotten.window.produced)

    def _drain(self) -> bool:
        """Store the closed windows, oldest first; return whether none is left.

        Counting goes on meanwhile: the hot path never waits for a disk.
        """
        with self._storing:
            while True:
                with self._lock:
                    if not self._backlog:
                        return True
                    closed = self._in_hand = self._backlog[0]
                    closed_windows = self._stored_windows + 1
                    # What is open may go with the last closed window: it is newer.
                    if len(self._backlog) == 1:
                        after = self._current(closed_windows)
                    else:
                        after = Checkpoint(closed.closed_total, 0, closed_windows)
                if not self._store(closed, after):
                    return False

    def _store(self, closed: ClosedWindow, after: Checkpoint) -> bool:
        try:
            self._ledger.close_window(
                closed.report_builder(self._clock), after.encode()
            )
        except (AgentError, OSError) as error:
            _LOG.warning(
                "%d closed windows wait in memory: %s", len(self._backlog), error
            )
            self._in_hand = None
            return False
        with self._lock:
            self._backlog.popleft()
            self._in_hand = None
            self._stored_windows = after.closed_windows
        return True

    def _save(self) -> None:
        with self._storing:
            if not self._drain():
                return
            with self._lock:
                now = self._current(self._stored_windows)
            try:
                self._ledger.save_checkpoint(now.encode())
                self._counter.sync()
            except (AgentError, OSError) as error:
                _LOG.warning("the checkpoint was not saved: %s", error)

    def _current(self, closed_windows: int) -> Checkpoint:
        window = self._resumable
        if self._lane is not None:
            window = self._lane.accumulator.open_window
            if window is not None:
                window = with_operations(window, self._meter.operations)
        counted = 0 if window is None else window.produced
        return Checkpoint(
            self._closed_total + counted + self._lost,
            self._lost,
            closed_windows,
            window,
        )
