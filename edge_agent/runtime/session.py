# SPDX-License-Identifier: Apache-2.0
"""The session: observed inference for several callers, and the swap of models.

Owns which model serves in a slot. The loop and the service call it from threads of
their own, and take turns. Another thread loads, warms and proves a model, then *offers*
it; whoever infers next takes it over before the inference, so that none fails and none
waits for a load. The model before stays loaded until the next swap, ready to be offered
again.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_agent.clock import Clock
from edge_agent.errors import BackendError, ModelError
from edge_agent.flow import Float32, Grid, ModelCard, Observer, Result, Watcher
from edge_agent.runtime.marks import Marks
from edge_agent.runtime.model import Model
from edge_agent.runtime.pipeline import Task
from edge_agent.runtime.turns import Turns

SERVICE_STREAM: Final = "service"
LIVE_US: Final = 10_000_000
_FEW: Final = 64
NOT_FINITE: Final = "the output is not finite"


@dataclass(frozen=True, slots=True)
class Tally:
    """What the serving model did since it was taken over.

    ``faulty`` counts failures on good input: a missing value in a row is the sensor's
    fault, not the model's. ``not_finite`` are those of them that gave an output.
    """

    digest: str
    finite: int
    faulty: int
    not_finite: int = 0


def is_finite(output: Float32) -> bool:
    """Return whether all values of an output (float32 [K]) are finite.

    A sum in Python's numbers cannot overflow, and costs less than numpy for a few.
    """
    if output.size > _FEW:
        return bool(np.isfinite(output).all())
    return math.isfinite(sum(output.tolist()))


@dataclass(slots=True, eq=False)
class _Offer:
    model: Model | None
    switch: Callable[[], None]
    is_taken: bool = False


class Session:
    """Runs the serving model and observes each inference. Any thread may call it.

    Args:
        observer: Gets every inference.
        clock: The event time of frames that come without one.
        watchers: Look on; called on the thread that inferred, outside the lock.
        marks: Marks results of frames that come by themselves; None: none gets any.
    """

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        watchers: Sequence[Watcher] = (),
        marks: Marks | None = None,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._wall_us = clock.wall_us
        self._watchers = tuple(watchers)
        self._watching = threading.Lock()  # of who may change the watchers
        self._marks = marks
        self._turns = Turns()
        self._served = threading.Event()
        self._offer: _Offer | None = None
        self._base = ("", 0, 0, 0)
        # Event time of the last task, and when that was: see _now_us.
        self._task_us: int | None = None
        self._task_seen_us = 0
        self.model: Model | None = None
        self.previous: Model | None = None
        self.finite = 0
        self.failed = 0
        self.faulty = 0
        self.not_finite = 0
        self.raw_bytes = 0

    @property
    def tally(self) -> Tally:
        """Inferences of the serving model since it was taken over.

        Read without a turn: who asks must not wait for an inference that hangs.
        """
        digest, finite, faulty, not_finite = self._base
        return Tally(
            digest,
            self.finite - finite,
            self.faulty - faulty,
            self.not_finite - not_finite,
        )

    def watch(self, watcher: Watcher) -> None:
        """Have somebody look on from the next inference on; any thread may ask."""
        with self._watching:
            self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Have somebody look on no more."""
        with self._watching:
            self._watchers = tuple(one for one in self._watchers if one is not watcher)

    @property
    def card(self) -> ModelCard | None:
        """The model that serves now; None while none does."""
        model = self.model
        return None if model is None else model.card

    @property
    def is_busy(self) -> bool:
        """Whether an inference is under way, or a swap."""
        return self._turns.is_taken

    def offer(self, model: Model | None, timeout_seconds: float | None = None) -> bool:
        """Serve ``model`` from the next inference on; None: serve none.

        Returns:
            Whether it does; False where an inference has not ended within
            ``timeout_seconds``. It is then taken over when that one does, unless
            another is offered.
        """
        mine = _Offer(model, self._prepare(model))
        self._offer = mine
        patience = -1.0 if timeout_seconds is None else timeout_seconds
        if self._turns.acquire(patience):
            self._take_offer()
            self._turns.release()
        return mine.is_taken

    def await_model(self, timeout_seconds: float) -> bool:
        """Wait until a model serves, or for ``timeout_seconds``; return whether."""
        return self._served.wait(timeout_seconds)

    def infer(self, frame: Float32, request_id: str) -> Result:
        """Run and observe a frame that comes by itself; see ``ServedModel.infer``.

        A frame of another shape than the model's is refused in the result, and counts
        nowhere: it was no inference.

        Raises:
            ModelError: No model serves.
        """
        with self._turns:
            if self._offer is not None:
                self._take_offer()
            model = self.model
            if model is None:
                msg = "inference: expected a model to serve, found none"
                raise ModelError(msg, next_step="load one, or wait for the update")
            now_us = self._wall_us() if self._task_us is None else self._now_us()
            try:
                data = model.check_frame(frame)
            except BackendError as error:
                return Result(request_id, now_us, model.digest, None, str(error))
            output, error_text, latency_ns = self._run(model, data)
            rows = data if data.ndim == 2 else data.reshape(model.rows_shape)
            self._observer.record(
                SERVICE_STREAM, model.is_series, rows, now_us, output, latency_ns
            )
            self.raw_bytes += rows.nbytes
        result = Result(request_id, now_us, model.digest, output, error_text)
        if self._marks is not None:
            self._marks.mark(frame, result, result)
        for one in self._watchers:
            one.saw(frame, result)
        return result

    def process(self, task: Task, grid: Grid) -> Result | None:
        """Run and observe a frame of a stream; never raises for what the model does.

        Args:
            task: The frame.
            grid: How it was cut.

        Returns:
            None where no model serves, or one that takes other frames: cut again.
        """
        time_us = int(task.times_us[-1])
        with self._turns:
            if self._offer is not None:
                self._take_offer()
            model = self.model
            if model is None or model.grid != grid:
                return None
            self._task_us, self._task_seen_us = time_us, self._clock.monotonic_us()
            data = task.data.reshape(model.input_shape)
            output, error, latency_ns = self._run(model, data)
            times_us = time_us if len(task.times_us) == 1 else task.times_us
            self._observer.record(
                task.stream, task.is_start, task.rows, times_us, output, latency_ns
            )
            self.raw_bytes += task.rows.nbytes
        result = Result(task.id, time_us, model.digest, output, error)
        for one in self._watchers:
            one.saw(task.data, result)
        return result

    def _run(
        self, model: Model, data: Float32
    ) -> tuple[Float32 | None, str | None, int]:
        start_ns = time.perf_counter_ns()
        try:
            output = model.run(data)
        except BackendError as caught:
            error = str(caught)
        else:
            latency_ns = time.perf_counter_ns() - start_ns
            if is_finite(output):
                self.finite += 1
                return output, None, latency_ns
            error = NOT_FINITE
        self.failed += 1
        is_faulty = bool(np.isfinite(data).all())
        self.not_finite += is_faulty and error is NOT_FINITE  # first: part of faulty
        self.faulty += is_faulty
        return None, error, time.perf_counter_ns() - start_ns

    def _now_us(self) -> int:
        """Return the event time of a frame that comes without one, beside a source.

        A clock of its own would have the two close each other's windows: such a frame
        is as old as the source's last row, or as much younger as the source has been
        silent for long.
        """
        silent_us = self._clock.monotonic_us() - self._task_seen_us
        return (self._task_us or 0) + (silent_us if silent_us > LIVE_US else 0)

    def _prepare(self, model: Model | None) -> Callable[[], None]:
        if model is None:
            return lambda: None
        release = bytes.fromhex(model.digest)
        return self._observer.prepare(model.profile, release, model.grid, model.reduce)

    def _take_offer(self) -> None:
        """Swap to the offered model, if any; the lock is held."""
        offer, self._offer = self._offer, None
        if offer is None:
            return
        offer.switch()
        self.previous, self.model = self.model, offer.model
        digest = "" if offer.model is None else offer.model.digest
        self._base = (digest, self.finite, self.faulty, self.not_finite)
        if offer.model is None:
            self._served.clear()
        else:
            self._served.set()
        offer.is_taken = True
