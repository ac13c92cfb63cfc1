# SPDX-License-Identifier: Apache-2.0
"""The inference loop: source, frames, model, sink, over and over.

Owns the one thread that infers, and what it does when a neighbour fails: a source that
fails is asked again a second later, a sink that fails is told so and goes without.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from edge_agent.errors import SinkError, SourceError
from edge_agent.flow import Grid, Sink, Source
from edge_agent.runtime.decisions import Decisions
from edge_agent.runtime.marks import Marks
from edge_agent.runtime.pipeline import FramePipeline
from edge_agent.runtime.session import Session
from edge_contract.errors import EdgeError

RETRY_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 0.5
_LOG = logging.getLogger(__name__)


class InferenceLoop:
    """Drives rows from a source through the session to a sink.

    Args:
        source: Where rows come from.
        sink: Where results go.
        session: Runs and swaps the model.
        on_end: Called when the source is exhausted.
        marks: Marks results before a sink gets them; None: none gets any.

    Attributes:
        source_error: What is wrong with the source; empty while nothing is.
        sink_errors: Results that the sink refused.
        turns: Times that the loop came round; it does so even where nothing is to do.
        is_resting: Has the loop rest as long as it works: the machine is hot.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        session: Session,
        on_end: Callable[[], None],
        marks: Marks | None = None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._session = session
        self._on_end = on_end
        self._marks = marks
        self._stop = threading.Event()
        self._pipeline: FramePipeline | None = None
        self._decisions = Decisions()
        self.source_error = ""
        self.sink_errors = 0
        self.turns = 0
        self.is_resting = False

    def stop(self) -> None:
        """Have ``run`` return after the inference in hand."""
        self._stop.set()

    def run(self) -> None:
        """Infer until ``stop``, or until the source is exhausted."""
        while not self._stop.is_set():
            model = self._session.model
            if model is None:
                self._session.await_model(IDLE_SECONDS)
                self.turns += 1
                continue
            started = time.monotonic()
            self._step(model.grid)
            self.turns += 1
            if self.is_resting:
                self._stop.wait(time.monotonic() - started)
            if self._source.is_exhausted:
                self._on_end()
                return

    def _step(self, grid: Grid) -> None:
        pipeline = self._pipeline
        if pipeline is None or pipeline.grid != grid:
            pipeline = self._pipeline = FramePipeline(grid)
        try:
            chunk = self._source.read(grid)
            if chunk is None:
                return
            tasks = list(pipeline.push(chunk))
        except EdgeError as error:
            self._complain(error)
            self._stop.wait(RETRY_SECONDS)
            return
        self.source_error = ""
        for task in tasks:
            raw = self._session.process(task, grid)
            if raw is None:
                return
            told = self._decisions.settle(task, raw, self._session.model)
            if self._marks is not None:
                self._marks.mark(task.data, raw, told)
            try:
                self._sink.write(told)
            except SinkError as error:
                if not self.sink_errors:
                    _LOG.warning("results are not written: %s", error)
                self.sink_errors += 1

    def _complain(self, error: EdgeError) -> None:
        if str(error) != self.source_error:
            kind = "source" if isinstance(error, SourceError) else "frames"
            _LOG.warning("%s: %s", kind, error)
        self.source_error = str(error)
