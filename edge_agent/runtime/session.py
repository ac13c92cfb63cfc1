# SPDX-License-Identifier: Apache-2.0
"""The session: observed inference, and the swap of models between two inferences.

Owns which model serves. Another thread loads, warms and proves a model, then *offers*
it; the inference thread takes it over between two inferences, so that none fails and
none waits for a load. The model before stays loaded until the next swap, ready to be
offered again.
"""

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge_agent.errors import BackendError
from edge_agent.flow import Float32, Grid, Observation, Observer, Result
from edge_agent.runtime.model import Model
from edge_agent.runtime.pipeline import Task
from edge_contract.profile import ReferenceProfile


class Binder(Observer, Protocol):
    """An observer that is told which release it observes."""

    def bind(self, profile: ReferenceProfile, release: bytes, grid: Grid) -> None:
        """Observe another release from the next inference on."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the serving model did since it was taken over.

    ``faulty`` counts failures on good input: a missing value in a row is the sensor's
    fault, not the model's.
    """

    digest: str
    finite: int
    faulty: int


class Session:
    """Runs the serving model and observes each inference.

    Args:
        observer: Gets every inference.
    """

    def __init__(self, observer: Binder) -> None:
        self._observer = observer
        self._changed = threading.Condition()
        self._offered: Model | None = None
        self._has_offer = False
        self._taken = 0
        self._offers = 0
        self.model: Model | None = None
        self.previous: Model | None = None
        self.finite = 0
        self.failed = 0
        self.faulty = 0
        self.raw_bytes = 0
        self._base = (0, 0)

    @property
    def tally(self) -> Tally:
        """Inferences of the serving model since it was taken over."""
        model, (finite, faulty) = self.model, self._base
        digest = "" if model is None else model.digest
        return Tally(digest, self.finite - finite, self.faulty - faulty)

    def offer(self, model: Model | None, timeout_seconds: float | None = None) -> bool:
        """Have ``model`` taken over between two inferences; None: serve none.

        Returns:
            Whether it was; False after ``timeout_seconds``.
        """
        with self._changed:
            self._offered, self._has_offer = model, True
            self._offers += 1
            mine = self._offers
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._taken >= mine, timeout_seconds)

    def prepare(self, model: Model) -> None:
        """Leave the first model to be taken over when inference starts."""
        with self._changed:
            self._offered, self._has_offer = model, True
            self._offers += 1

    def await_taken(self, timeout_seconds: float) -> bool:
        """Wait until nothing is left to be taken over; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._taken >= self._offers, timeout_seconds
            )

    def await_offer(self, timeout_seconds: float) -> None:
        """Wait until a model is offered, or for ``timeout_seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_offer, timeout_seconds)

    def take_offer(self) -> bool:
        """Swap to the offered model, if any; only the inference thread calls this.

        Returns:
            Whether the model changed.
        """
        if not self._has_offer:
            return False
        with self._changed:
            model, self._offered, self._has_offer = self._offered, None, False
            if model is not None:
                release = bytes.fromhex(model.digest)
                self._observer.bind(model.profile, release, model.grid)
            self.previous, self.model = self.model, model
            self._base = (self.finite, self.faulty)
            self._taken = self._offers
            self._changed.notify_all()
        return True

    def infer(self, task: Task) -> Result:
        """Run the serving model on one frame and observe it; never raises for it."""
        model = self.model
        if model is None:
            msg = "inference needs a model"
            raise RuntimeError(msg)
        output: Float32 | None
        try:
            output, error = model.infer(task.data), None
        except BackendError as caught:
            output, error = None, str(caught)
        if output is not None and not np.isfinite(output).all():
            output, error = None, "the output is not finite"
        self._observer.record(
            Observation(
                task.stream,
                model.observe(task.rows),
                task.times_us,
                task.is_start,
                output,
            )
        )
        self.raw_bytes += task.rows.nbytes
        if output is None:
            self.failed += 1
            self.faulty += bool(np.isfinite(task.data).all())
        else:
            self.finite += 1
        return Result(task.id, int(task.times_us[-1]), model.digest, output, error)
