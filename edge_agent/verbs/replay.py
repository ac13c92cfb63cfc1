# SPDX-License-Identifier: Apache-2.0
"""``edge-agent replay``: a bundle over a recording, as the daemon would run it.

Owns putting the daemon's own parts together without a fleet or a state folder: the same
source, frames, steps, session and statistics; windows go into the report and nowhere
else. Event time begins at 0.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from edge_agent.clock import Clock
from edge_agent.flow import Result
from edge_agent.runtime.loop import InferenceLoop
from edge_agent.runtime.model import Model
from edge_agent.runtime.session import Session
from edge_agent.sources.file import FileSource, ReplayOptions
from edge_agent.stats.checkpoint import open_counter
from edge_agent.stats.keeper import Periods, StatisticsKeeper
from edge_contract.messages import UpMessage
from edge_contract.profile import Layout, ReferenceProfile
from edge_contract.window import WindowStatistics
from edge_contract.window_report import WindowReport

NOBODY: Final = ""
_CHECKPOINT_US: Final = 60_000_000
_BOOT_ID: Final = bytes(8)


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay and how.

    Attributes:
        path: A file of recordings.
        sample_rate_hz: Rows a second of event time.
        window_us: Length of a window in event time.
        order: One frame of each recording in turn, or one recording after another.
    """

    path: Path
    sample_rate_hz: float
    window_us: int
    order: Literal["interleaved", "sequential"]


@dataclass(frozen=True)
class WindowSummary:
    """One window. Classes are what the model said; ``missing`` is over all features."""

    start_seconds: float
    rows: int
    inferences: int
    failed: int
    classes: dict[str, int]
    missing: int


@dataclass(frozen=True)
class FeatureSummary:
    """One observed feature over all windows; counts as in docs/spec/windows.md."""

    name: str
    mean: float
    missing: int
    below: int
    above: int
    repeat: int


@dataclass(frozen=True)
class ReplayReport:
    """What came of a replay.

    Attributes:
        model: The model's name.
        digest: The release digest.
        variant: The variant that ran.
        inferences: How many gave finite outputs.
        failed: How many did not.
        decided: Names to how often they were decided on; ``""`` is nothing.
        mean_score: Of the names that were decided on; None where none was.
        seconds: How long it took.
        frames_per_second: How fast that is.
        windows: In their order.
        features: In their order.
    """

    model: str
    digest: str
    variant: str
    inferences: int
    failed: int
    decided: dict[str, int]
    mean_score: float | None
    seconds: float
    frames_per_second: float
    windows: tuple[WindowSummary, ...]
    features: tuple[FeatureSummary, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--json``."""
        return asdict(self)


class _Windows:
    """A ledger that keeps windows for the report."""

    def __init__(self) -> None:
        self.reports: list[WindowReport] = []

    def close_window(
        self, build: Callable[[bytes, int], UpMessage], checkpoint: bytes
    ) -> int:
        """Keep the window."""
        del checkpoint
        report = build(_BOOT_ID, len(self.reports) + 1)
        if isinstance(report, WindowReport):
            self.reports.append(report)
        return len(self.reports)

    def save_checkpoint(self, checkpoint: bytes) -> None:
        """Nothing outlives a replay."""

    def load_checkpoint(self) -> bytes | None:
        """Nothing came before it."""
        return None

    def remember_layout(self, ref_id: bytes, layout: Layout) -> None:
        """The model is at hand."""


class _Listener:
    """A sink that counts decisions and passes results on."""

    def __init__(self, hear: Callable[[Result], None]) -> None:
        self._hear = hear
        self.decided: Counter[str] = Counter()
        self.scores = 0.0

    def write(self, result: Result) -> None:
        """Count one result."""
        if result.output is not None:
            name, score = result.ranked[0] if result.ranked else (NOBODY, 0.0)
            self.decided[name] += 1
            self.scores += score
        self._hear(result)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Nothing is held."""


def run_replay(
    model: Model, request: ReplayRequest, clock: Clock, hear: Callable[[Result], None]
) -> ReplayReport:
    """Run a model over a recording.

    Args:
        model: The loaded model.
        request: What to replay and how.
        clock: Stamps windows.
        hear: Called with each result, as a sink would be.

    Raises:
        SourceError: The recording cannot be read, or does not fit the model.
    """
    options = ReplayOptions(
        sample_rate_hz=request.sample_rate_hz,
        is_interleaved=request.order == "interleaved",
        repeat=False,
        follow=False,
    )
    source = FileSource(request.path, options, 0)
    source.check(model.grid)
    ledger, listener = _Windows(), _Listener(hear)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_counter(Path(folder), "replay") as counter,
    ):
        periods = Periods(request.window_us, _CHECKPOINT_US)
        keeper = StatisticsKeeper(ledger, counter, clock, periods)
        session = Session(keeper, clock)
        session.offer(model)
        start = time.monotonic()
        keeper.start()
        try:
            InferenceLoop(source, listener, session, keeper.finish_window).run()
        finally:
            keeper.stop()
        seconds = time.monotonic() - start
    return _report(model, session, ledger.reports, listener, seconds)


def _report(
    model: Model,
    session: Session,
    reports: list[WindowReport],
    listener: _Listener,
    seconds: float,
) -> ReplayReport:
    named = listener.decided.total() - listener.decided[NOBODY]
    found = [one.statistics(model.profile) for one in reports]
    return ReplayReport(
        model=model.manifest.name,
        digest=model.digest,
        variant=model.variant.id,
        inferences=session.finite,
        failed=session.failed,
        decided={name: count for name, count in listener.decided.items() if count},
        mean_score=round(listener.scores / named, 6) if named else None,
        seconds=round(seconds, 3),
        frames_per_second=round((session.finite + session.failed) / seconds, 1),
        windows=tuple(
            _summarise_window(report, sums, model)
            for report, sums in zip(reports, found, strict=True)
        ),
        features=_summarise_features(model.profile, found),
    )


def _summarise_window(
    report: WindowReport, sums: WindowStatistics, model: Model
) -> WindowSummary:
    layout = model.profile.layout
    classes = sums.counts[layout.classes].tolist()
    return WindowSummary(
        start_seconds=report.start_us / 1e6,
        rows=report.rows,
        inferences=report.inferences,
        failed=report.failed,
        classes=dict(zip(model.labels, classes, strict=True)),
        missing=int(sums.counts[layout.missing].sum()),
    )


def _summarise_features(
    profile: ReferenceProfile, found: list[WindowStatistics]
) -> tuple[FeatureSummary, ...]:
    layout = profile.layout
    counts = np.stack([one.counts for one in found]).sum(axis=0)
    valid = np.stack([one.valid(layout) for one in found]).sum(axis=0)
    totals = np.stack([one.mean * one.valid(layout) for one in found]).sum(axis=0)
    columns = (layout.missing, layout.below, layout.above, layout.repeat)
    return tuple(
        FeatureSummary(
            one.name,
            round(float(totals[index] / max(valid[index], 1)), 6),
            *(int(counts[column][index]) for column in columns),
        )
        for index, one in enumerate(profile.features)
    )


def format_replay(report: ReplayReport) -> str:
    """Return the report as text."""
    title = f"{report.model} {report.digest[:12]} ({report.variant})"
    amount = f"{report.inferences} inferences, {report.failed} failed"
    speed = f"{report.seconds} s, {report.frames_per_second} frames/s"
    lines = [f"{title}: {amount}, {speed}"]
    ranking = sorted(report.decided.items(), key=lambda one: -one[1])
    lines += [f"  {name or '(nothing decided)'}: {count}" for name, count in ranking]
    if report.mean_score is not None:
        lines.append(f"  mean score {report.mean_score:.3f}")
    lines.append("windows:")
    for window in report.windows:
        classes = " ".join(f"{name}={n}" for name, n in window.classes.items() if n)
        lines.append(
            f"  {window.start_seconds:g} s: {window.rows} rows, {window.inferences} "
            f"inferences, {window.failed} failed, {window.missing} missing {classes}"
        )
    lines.append("features (missing, below, above, repeat):")
    lines += [
        f"  {one.name}: mean {one.mean:g}, {one.missing}, {one.below}, {one.above}, "
        f"{one.repeat}"
        for one in report.features
    ]
    return "\n".join(lines)


def format_result(result: Result) -> str:
    """Return one result as a line of text."""
    if result.output is None:
        return f"{result.id}: {result.error}"
    scores = [f"{name} {score:.3f}" for name, score in result.ranked]
    values = [f"{float(one):.6g}" for one in result.output]
    return f"{result.id}: {' '.join(scores or values)}"
