# SPDX-License-Identifier: Apache-2.0
"""In-memory twins of the agent's seams: clock, ledger, source, sink."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_agent.errors import OutboxError
from edge_agent.flow import Chunk, Float32, Grid, Int64, Result
from edge_contract.messages import UpMessage
from edge_contract.profile import Layout, ReferenceProfile
from edge_contract.window_report import WindowReport


class ManualClock:
    """A clock that goes on when told to."""

    def __init__(self, wall_us: int = 1_700_000_000_000_000) -> None:
        self._wall_us = wall_us
        self._monotonic_us = 0
        self.synced = True

    def advance(self, us: int) -> None:
        """Let time pass."""
        self._wall_us += us
        self._monotonic_us += us

    def jump(self, us: int) -> None:
        """Set the wall clock on, or back."""
        self._wall_us += us

    def wall_us(self) -> int:
        """Return the wall clock."""
        return self._wall_us

    def monotonic_us(self) -> int:
        """Return the monotonic clock."""
        return self._monotonic_us

    def is_synced(self) -> bool:
        """Return what the test set."""
        return self.synced


class MemoryLedger:
    """A ledger in memory; ``is_full`` makes it refuse."""

    def __init__(self) -> None:
        self.reports: list[WindowReport] = []
        self.layouts: dict[bytes, Layout] = {}
        self.checkpoint: bytes | None = None
        self.is_full = False

    def close_window(
        self, build: Callable[[bytes, int], UpMessage], checkpoint: bytes
    ) -> int:
        """Keep the window and the checkpoint."""
        self._refuse()
        report = build(b"bootboot", len(self.reports) + 1)
        assert isinstance(report, WindowReport)
        self.reports.append(report)
        self.checkpoint = checkpoint
        return report.seq

    def save_checkpoint(self, checkpoint: bytes) -> None:
        """Keep the checkpoint."""
        self._refuse()
        self.checkpoint = checkpoint

    def load_checkpoint(self) -> bytes | None:
        """Return the checkpoint."""
        return self.checkpoint

    def remember_layout(self, ref_id: bytes, layout: Layout) -> None:
        """Keep the layout."""
        self.layouts[ref_id] = layout

    def _refuse(self) -> None:
        if self.is_full:
            raise OutboxError("outbox: the disk is full")


class ListSource:
    """Gives the chunks of a list, then is exhausted."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = deque(chunks)

    @property
    def features(self) -> int | None:
        """Values of a row of the next chunk."""
        return self._chunks[0].rows.shape[1] if self._chunks else None

    @property
    def is_exhausted(self) -> bool:
        """Whether every chunk was given."""
        return not self._chunks

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next chunk."""
        del grid
        return self._chunks.popleft() if self._chunks else None

    def close(self) -> None:
        """Do nothing."""


class ListSink:
    """Keeps results in a list."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, result: Result) -> None:
        """Keep a result."""
        self.results.append(result)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What an observer was told of one inference; see ``Observer.record``."""

    stream: str
    is_start: bool
    rows: Float32
    times_us: Int64 | int
    output: Float32 | None
    latency_ns: int


class ListObserver:
    """Keeps observations, and the releases that were switched to."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.bound: list[bytes] = []

    def prepare(
        self,
        profile: ReferenceProfile,
        release: bytes,
        grid: Grid,
        reduce: Callable[[Float32], Float32] | None,
    ) -> Callable[[], None]:
        """Keep the release at the switch."""
        del profile, grid, reduce
        return lambda: self.bound.append(release)

    def record(
        self,
        stream: str,
        is_start: bool,  # noqa: FBT001 - as in the Protocol
        rows: Float32,
        times_us: Int64 | int,
        output: Float32 | None,
        latency_ns: int,
    ) -> None:
        """Keep the observation."""
        self.observations.append(
            Observation(stream, is_start, rows, times_us, output, latency_ns)
        )
