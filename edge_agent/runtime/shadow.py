# SPDX-License-Identifier: Apache-2.0
"""A shadow: a second model that sees what the first sees, and answers nobody.

Owns its queue, its thread and its share of the processor. The hot path pays for one
copy of a frame; when the queue is full, frames are passed over and counted. After each
inference the thread rests for as long as its share of one processor asks, and it runs
at the lowest priority. A shadow that cannot be loaded, or fails, is a line in the log.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_agent.errors import BackendError
from edge_agent.flow import Float32, Result
from edge_agent.runtime.model import Model
from edge_contract.errors import EdgeError
from edge_contract.operations import (
    Operations,
    count_latencies,
    latency_quantile_us,
)

MAX_QUEUE: Final = 16
RELATIVE_TOLERANCE: Final = 0.05
LOWEST_PRIORITY: Final = 19
_SMOOTHING: Final = 0.05
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShadowTally:
    """What a shadow did.

    Attributes:
        digest: Its release; empty until it is loaded.
        inferences: Frames that both models answered.
        disagreements: Of these, another winner; or for real values, a relative error
            above 5 %.
        failed: Frames that the shadow could not answer.
        passed_over: Frames that came while it was busy, or resting.
        latency_us: Of one inference, a moving average.
        is_resting: Whether a limit has it rest.
        not_finite: Of the inferences, those whose output was not finite.
        confidence: The shadow's mean confidence; None without classes or frames.
        live_confidence: That of the live model, in the same frames.
        p95_us: Of the shadow's inferences; None without any.
    """

    digest: str = ""
    inferences: int = 0
    disagreements: int = 0
    failed: int = 0
    passed_over: int = 0
    latency_us: float = 0.0
    is_resting: bool = False
    not_finite: int = 0
    confidence: float | None = None
    live_confidence: float | None = None
    p95_us: float | None = None


class Shadow:
    """Compares a second model with the one that serves; a ``Watcher``.

    Args:
        load: Loads the model, on the shadow's thread.
        share: Of one processor, above 0 and up to 1.
    """

    def __init__(self, load: Callable[[], Model], share: float) -> None:
        self._load = load
        self._share = share
        self._queue: deque[tuple[Float32, Float32]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._model: Model | None = None
        self._inferences = 0
        self._disagreements = 0
        self._failed = 0
        self._passed_over = 0
        self._latency_us = 0.0
        self._latency = Operations().latency
        self._not_finite = 0
        self._confidences = [0.0, 0.0]  # the shadow's, and the live model's
        self.is_resting = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    @property
    def tally(self) -> ShadowTally:
        """What it did so far: whole frames, whoever reads it when."""
        with self._wake:
            return self._tell()

    def _tell(self) -> ShadowTally:
        model = self._model
        count = self._inferences - self._not_finite
        has_classes = model is not None and bool(model.labels) and count > 0
        p95_us = None
        if self._inferences:
            p95_us = latency_quantile_us(self._latency, 0.95)
        means = [one / count if has_classes else None for one in self._confidences]
        return ShadowTally(
            digest="" if model is None else model.digest,
            inferences=self._inferences,
            disagreements=self._disagreements,
            failed=self._failed,
            passed_over=self._passed_over,
            latency_us=round(self._latency_us, 1),
            is_resting=self.is_resting,
            not_finite=self._not_finite,
            confidence=means[0],
            live_confidence=means[1],
            p95_us=p95_us,
        )

    def start(self) -> None:
        """Start the thread; it loads the model first."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """End the thread after the inference in hand."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def saw(self, data: Float32, result: Result) -> None:
        """Take a copy of one frame where there is room; see ``Watcher.saw``."""
        if result.output is None or self._model is None:
            return
        if self.is_resting or len(self._queue) >= MAX_QUEUE:
            self._passed_over += 1
            return
        with self._wake:
            self._queue.append((data.copy(), result.output.copy()))
            self._wake.notify()

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
            self._model = self._load()
        except (EdgeError, OSError) as error:
            _LOG.warning("the shadow model is not there: %s", error)
            return
        _LOG.info("shadow %s", self._model.digest[:12])
        while (task := self._next()) is not None:
            busy = self._compare(self._model, *task)
            self._rest(busy * (1 / self._share - 1))

    def _next(self) -> tuple[Float32, Float32] | None:
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._stopping)
            return None if self._stopping else self._queue.popleft()

    def _compare(self, model: Model, data: Float32, expected: Float32) -> float:
        """Run one frame; return the processor time that it took."""
        started, used = time.perf_counter(), time.thread_time()
        try:
            output = model.infer(data)
        except BackendError as error:
            if not self._failed:
                _LOG.warning("the shadow model fails: %s", error)
            self._failed += 1
        else:
            self._count(model, expected, output, time.perf_counter() - started)
        elapsed_us = (time.perf_counter() - started) * 1e6
        weight = _SMOOTHING if self._latency_us else 1.0
        self._latency_us += weight * (elapsed_us - self._latency_us)
        # A runtime's own threads are not in thread_time: the longer of the two counts.
        return max(time.thread_time() - used, elapsed_us / 1e6)

    def _count(
        self, model: Model, expected: Float32, output: Float32, seconds: float
    ) -> None:
        is_other = disagrees(expected, output, is_class=bool(model.labels))
        is_finite = bool(np.isfinite(output).all())
        elapsed_ns = np.array([round(seconds * 1e9)], dtype=np.int64)
        latency = count_latencies(elapsed_ns)
        with self._wake:
            self._inferences += 1
            self._disagreements += is_other
            self._latency += latency
            if is_finite:
                self._confidences[0] += float(output.max())
                self._confidences[1] += float(expected.max())
            else:
                self._not_finite += 1

    def _rest(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, seconds)


def disagrees(expected: Float32, found: Float32, *, is_class: bool) -> bool:
    """Return whether two outputs differ in what matters.

    Args:
        expected: float32 [K], of the live model.
        found: float32 [K], of the shadow.
        is_class: Whether the largest value is the answer, else all values are.

    >>> one, two = np.float32([0.6, 0.4]), np.float32([0.4, 0.6])
    >>> disagrees(one, two, is_class=True)
    True
    >>> disagrees(np.float32([100]), np.float32([104]), is_class=False)
    False
    """
    if expected.shape != found.shape or not np.isfinite(found).all():
        return True
    if is_class:
        return bool(expected.argmax() != found.argmax())
    scale = float(np.linalg.norm(expected))
    error = float(np.linalg.norm(found - expected))
    return error > RELATIVE_TOLERANCE * scale if scale else error > 0
