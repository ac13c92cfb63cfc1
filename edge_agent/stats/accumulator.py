# SPDX-License-Identifier: Apache-2.0
"""The accumulator: blocks of observations in, closed windows out.

Owns which window a row and an inference belong to: windows are aligned to multiples of
their length in event time; an inference belongs to the window of its last row; a row
of another window, later or earlier, closes the open one, unless that holds too little
to be told: then it goes on. Pure: no clock, no disk, no thread; see ``keeper`` for
those.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np

from edge_agent.flow import Float32, Int64
from edge_agent.stats.ring import Block
from edge_agent.stats.rules import Seen
from edge_contract.evidence import Feedback, merge_feedback
from edge_contract.operations import Operations, count_latencies, merge_operations
from edge_contract.profile import ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics

MAX_STREAMS: Final = 4096
RELEASE_BYTES: Final = 8
LATEST_US: Final = 2**62
Reduce = Callable[[Float32], Float32]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A window, open or closed, without identity.

    Attributes:
        start_us: Event time, microseconds since the epoch.
        duration_us: Length.
        release: First 8 bytes of the digest of the release that serves.
        statistics: The sums.
        operations: Latencies, and how the device fared.
        lost: Inferences that a kill lost before it.
        feedback: Labels that came while it was open.
    """

    start_us: int
    duration_us: int
    release: bytes
    statistics: WindowStatistics
    operations: Operations
    lost: int = 0
    feedback: Feedback = field(default_factory=Feedback.none)

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing to tell."""
        has_labels = bool(self.feedback.labels.any())
        return not (self.produced or self.statistics.rows or has_labels)

    @property
    def produced(self) -> int:
        """Inferences that this window accounts for, lost ones too."""
        return self.statistics.inferences + self.statistics.failed + self.lost

    @property
    def held(self) -> int:
        """Rows or inferences, whichever are fewer: among them noise hides one."""
        return min(self.statistics.rows, self.produced)


class Accumulator:
    """Sums observations of one release into windows of event time.

    Args:
        profile: The release's reference profile.
        release: First 8 bytes of its digest.
        window_us: Length of a window.
        on_close: Gets each closed window, after it has left the accumulator.
        reduce: See ``Observer.prepare``.
        least: Rows, and inferences, without which a window goes on into the next.
    """

    def __init__(
        self,
        profile: ReferenceProfile,
        release: bytes,
        window_us: int,
        on_close: Callable[[Window], None],
        reduce: Reduce | None = None,
        least: int = 0,
    ) -> None:
        self._profile = profile
        self.release = release
        self._window_us = window_us
        self._on_close = on_close
        self._reduce = reduce
        self._least = least
        self._builder: StatisticsBuilder | None = None
        self._operations = Operations()
        self._feedback = Feedback.none()
        self._start_us = self._stop_us = 0
        self._current_us = 0  # the aligned window that is being counted
        self._previous: OrderedDict[str, Float32] = OrderedDict()
        # What closed windows held, less what the open one held at the start.
        self._closed_rows = 0
        self._closed_counters = _counters(WindowStatistics.empty(profile), profile)

    @property
    def open_window(self) -> Window | None:
        """The open window so far."""
        if self._builder is None:
            return None
        return Window(
            self._start_us,
            self._stop_us - self._start_us,
            self.release,
            self._builder.statistics,
            self._operations,
            feedback=self._feedback,
        )

    @property
    def end_us(self) -> int | None:
        """The event time that closes the open window; None when none is open."""
        return None if self._builder is None else self._current_us + self._window_us

    @property
    def seen(self) -> Seen:
        """What was seen since this run began."""
        rows, counters = self._closed_rows, self._closed_counters
        if self._builder is not None:
            statistics = self._builder.statistics
            rows += statistics.rows
            counters = counters + _counters(statistics, self._profile)
        return Seen(self._profile, rows, *counters)

    @property
    def is_tellable(self) -> bool:
        """Whether the open window holds enough to be told."""
        window = self.open_window
        return window is not None and window.held >= self._least

    def resume(self, window: Window) -> bool:
        """Go on with a window of an earlier run, if it is one of ours.

        Returns:
            Whether it is; else the caller closes it as it stands.
        """
        fits = (
            window.release == self.release
            and (self._least or window.duration_us == self._window_us)
            and window.duration_us % self._window_us == 0
            and window.statistics.ref_id == self._profile.ref_id
            and window.statistics.counts.shape == (self._profile.layout.size,)
        )
        if fits:
            self._start_us = window.start_us
            self._stop_us = window.start_us + window.duration_us
            self._current_us = self._stop_us - self._window_us
            self._builder = StatisticsBuilder(self._profile, window.statistics)
            self._operations = window.operations
            self._feedback = window.feedback
            self._pass_over(window.statistics, -1)
        return bool(fits)

    def add(self, block: Block) -> None:
        """Add observations, in the order in which they were made."""
        rows = block.rows
        if self._reduce is not None and len(rows):
            rows = self._reduce(rows)
        points = np.maximum(block.row_counts, 1)
        ends, row_ends = np.cumsum(points), np.cumsum(block.row_counts)
        # What no calendar holds is a clock gone wrong, and no number for the wire.
        windows = block.times_us.clip(0, LATEST_US) // self._window_us
        edges = _segment_edges(block, ends, windows)
        first, done = 0, 0  # the first inference not yet added, how many points are
        for start, stop in pairwise(edges):
            window_start = int(windows[start]) * self._window_us
            if self._builder is None or window_start != self._current_us:
                last = int(np.searchsorted(ends, done, side="right"))
                self._add_outputs(block, first, last)
                first = last
                self._open(window_start)
            part = slice(*_rows_before((start, stop), ends, row_ends))
            self._add_rows(rows[part], block, ends, start)
            done = stop
        self._add_outputs(block, first, len(block))

    def add_label(self, time_us: int, feedback: Feedback) -> None:
        """Add labels to the open window; with none open, to that of their answer.

        Args:
            time_us: Event time of the answer.
            feedback: The labels.
        """
        if self._builder is None:
            at_us = min(max(time_us, 0), LATEST_US)
            self._open(at_us // self._window_us * self._window_us)
        self._feedback = merge_feedback(self._feedback, feedback)

    def close(self) -> None:
        """Close the open window, if any."""
        window = self.open_window
        self._builder = None
        if window is not None:
            self._pass_over(window.statistics, 1)
            self._on_close(window)

    def _pass_over(self, statistics: WindowStatistics, sign: int) -> None:
        self._closed_rows += sign * statistics.rows
        self._closed_counters = self._closed_counters + sign * _counters(
            statistics, self._profile
        )

    def _open(self, start_us: int) -> None:
        self._current_us = start_us
        if self._builder is not None and not self.is_tellable:
            self._start_us = min(self._start_us, start_us)
            self._stop_us = max(self._stop_us, start_us + self._window_us)
            return
        self.close()
        self._start_us, self._stop_us = start_us, start_us + self._window_us
        self._builder = StatisticsBuilder(self._profile)
        self._operations = Operations()
        self._feedback = Feedback.none()

    def _add_rows(self, rows: Float32, block: Block, ends: Int64, start: int) -> None:
        if not len(rows):
            return
        owner = int(np.searchsorted(ends, start, side="right"))
        stream = block.streams[owner]
        own_start = int(ends[owner - 1]) if owner else 0
        if block.starts[owner] and start == own_start:
            previous = None
        else:
            previous = self._previous.get(stream)
        if self._builder is not None:
            self._builder.add_rows(rows, previous)
        self._previous[stream] = rows[-1].copy()
        self._previous.move_to_end(stream)
        if len(self._previous) > MAX_STREAMS:
            self._previous.popitem(last=False)

    def _add_outputs(self, block: Block, first: int, last: int) -> None:
        if last > first and self._builder is not None:
            self._builder.add_outputs(block.outputs[first:last])
            latency = count_latencies(block.latencies_ns[first:last])
            self._operations = merge_operations(self._operations, Operations(latency))


def _counters(statistics: WindowStatistics, profile: ReferenceProfile) -> Int64:
    """Return missing, outside of the range, and repeated: int64 [3, F]."""
    counts, layout = statistics.counts, profile.layout
    outside = counts[layout.below] + counts[layout.above]
    return np.stack((counts[layout.missing], outside, counts[layout.repeat]))


def with_lost(window: Window, lost: int) -> Window:
    """Return ``window`` declaring ``lost`` more inferences."""
    return replace(window, lost=window.lost + lost)


def with_operations(window: Window, operations: Operations) -> Window:
    """Return ``window`` telling ``operations`` as well."""
    return replace(window, operations=merge_operations(window.operations, operations))


def _segment_edges(block: Block, ends: Int64, windows: Int64) -> list[int]:
    """Cut the points where the window or the stream changes, or a stream starts."""
    cuts = {0, len(windows)}
    cuts.update((np.flatnonzero(np.diff(windows)) + 1).tolist())
    names = block.streams
    if any(block.starts) or len(set(names)) > 1:
        for index in range(1, len(block)):
            if block.starts[index] or names[index] != names[index - 1]:
                cuts.add(int(ends[index - 1]))
    return sorted(cuts)


def _rows_before(
    points: tuple[int, ...], ends: Int64, row_ends: Int64
) -> tuple[int, ...]:
    """Return how many rows lie before each of these points."""
    if row_ends[-1] == ends[-1]:
        return points  # each point is a row
    owners = np.searchsorted(ends, points, side="right")
    starts, before = np.concatenate(([0], ends)), np.concatenate(([0], row_ends))
    return tuple((before[owners] + np.array(points) - starts[owners]).tolist())
