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
from typing import Final, Protocol

from edge_agent.clock import Clock
from edge_agent.errors import AgentError
from edge_agent.flow import Grid, Observation
from edge_agent.stats.accumulator import RELEASE_BYTES, Accumulator, Window, with_lost
from edge_agent.stats.checkpoint import Checkpoint, ProducedCounter, recover
from edge_agent.stats.ring import Ring
from edge_contract.messages import UpMessage
from edge_contract.profile import Layout, ReferenceProfile
from edge_contract.window_report import WindowReport, encode_blocks

MAX_BACKLOG: Final = 1024
_LOG = logging.getLogger(__name__)


class Ledger(Protocol):
    """Where closed windows and checkpoints become durable; the outbox."""

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


class StatisticsKeeper:
    """Accounts for every inference; the production ``Observer``.

    One thread calls ``record`` and ``bind``; any thread may call the rest.

    Args:
        ledger: Takes windows and checkpoints.
        counter: The produced counter of the same state folder.
        clock: Stamps closed windows.
        window_us: Length of a window in event time.
        checkpoint_us: How often the open window is made durable.
    """

    def __init__(
        self,
        ledger: Ledger,
        counter: ProducedCounter,
        clock: Clock,
        window_us: int,
        checkpoint_us: int,
    ) -> None:
        self._ledger = ledger
        self._counter = counter
        self._clock = clock
        self._window_us = window_us
        self._interval_seconds = checkpoint_us / 1e6
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
        self._backlog: deque[tuple[Window, int]] = deque()
        self._accumulator: Accumulator | None = None
        self._ring: Ring | None = None
        self._end_us: int | None = None
        self._lock = threading.RLock()
        self._wake = threading.Event()
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

    def start(self) -> None:
        """Start the counting thread."""
        self._thread.start()

    def bind(self, profile: ReferenceProfile, release: bytes, grid: Grid) -> None:
        """Count for another release from the next observation on.

        The open window closes here, unless it is a restart of the same release.

        Args:
            profile: Its reference profile.
            release: Its digest; the first 8 bytes are kept.
            grid: Its frames.
        """
        self._ledger.remember_layout(profile.ref_id, profile.layout)
        with self._lock:
            self._count()
            if self._accumulator is not None:
                self._accumulator.close()
            release = release[:RELEASE_BYTES]
            accumulator = Accumulator(profile, release, self._window_us, self._closed)
            self._accumulator = accumulator
            window, self._resumable = self._resumable, None
            if window is not None and not accumulator.resume(window):
                self._closed(window)
            self._ring = Ring(
                grid.length, profile.layout.features, profile.output_width
            )
            self._end_us = None
            self._save()

    def record(self, observation: Observation) -> None:
        """Copy one inference of the bound release into the ring."""
        ring = self._ring
        if ring is None:
            msg = "observations need a bound release"
            raise RuntimeError(msg)
        if ring.is_full:
            self.flush()
        self._produced += 1
        self._counter.value = self._produced
        ring.put(observation)
        passed = self._end_us is None or observation.times_us[-1] >= self._end_us
        if passed or len(ring) * 2 > ring.slots:
            self._wake.set()

    def flush(self) -> None:
        """Count all that was recorded."""
        with self._lock:
            self._count()

    def finish_window(self) -> None:
        """Close the open window now: the source is at its end."""
        with self._lock:
            self._count()
            if self._accumulator is not None:
                self._accumulator.close()
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
        due_us = self._clock.monotonic_us() + int(self._interval_seconds * 1e6)
        while not self._stopping:
            left = (due_us - self._clock.monotonic_us()) / 1e6
            self._wake.wait(max(0.0, left))
            self._wake.clear()
            self.flush()
            if self._clock.monotonic_us() >= due_us:
                self.checkpoint()
                due_us += int(self._interval_seconds * 1e6)

    def _count(self) -> None:
        if self._ring is None or self._accumulator is None:
            return
        for block in self._ring.blocks():
            self._accumulator.add(block)
        self._end_us = self._accumulator.end_us
        self._drain()

    def _closed(self, window: Window) -> None:
        window = with_lost(window, self._lost)
        self._lost = 0
        if window.produced == 0 and window.statistics.rows == 0:
            return
        self._closed_total += window.produced
        self._backlog.append((window, self._closed_total))
        if len(self._backlog) > MAX_BACKLOG:
            forgotten, _ = self._backlog.popleft()
            heir, after = self._backlog[0]
            self._backlog[0] = (with_lost(heir, forgotten.produced), after)

    def _drain(self) -> None:
        while self._backlog:
            window, closed_total = self._backlog[0]
            closed_windows = self._stored_windows + 1
            # What is open may go with the last closed window only: it is newer.
            if len(self._backlog) == 1:
                after = self._current(closed_windows)
            else:
                after = Checkpoint(closed_total, 0, closed_windows)
            build = self._report_builder(window)
            try:
                self._ledger.close_window(build, after.encode())
            except (AgentError, OSError) as error:
                _LOG.warning(
                    "%d closed windows wait in memory: %s", len(self._backlog), error
                )
                return
            self._backlog.popleft()
            self._stored_windows = closed_windows

    def _save(self) -> None:
        self._drain()
        if self._backlog:
            return
        try:
            self._ledger.save_checkpoint(self._current(self._stored_windows).encode())
            self._counter.sync()
        except (AgentError, OSError) as error:
            _LOG.warning("the checkpoint was not saved: %s", error)

    def _current(self, closed_windows: int) -> Checkpoint:
        window = self._resumable
        if self._accumulator is not None:
            window = self._accumulator.open_window
        counted = 0 if window is None else window.produced
        return Checkpoint(
            self._closed_total + counted + self._lost,
            self._lost,
            closed_windows,
            window,
        )

    def _report_builder(self, window: Window) -> Callable[[bytes, int], UpMessage]:
        counts, moments = encode_blocks(window.statistics)
        monotonic_us = self._clock.monotonic_us()
        clock_synced = self._clock.is_synced()

        def build(boot_id: bytes, seq: int) -> UpMessage:
            sums = window.statistics
            return WindowReport(
                boot_id=boot_id,
                seq=seq,
                ref_id=sums.ref_id,
                release=window.release,
                start_us=window.start_us,
                duration_us=window.duration_us,
                monotonic_us=monotonic_us,
                clock_synced=clock_synced,
                rows=sums.rows,
                inferences=sums.inferences,
                failed=sums.failed,
                lost=window.lost,
                covers=(),
                count_block=counts,
                moment_block=moments,
            )

        return build
