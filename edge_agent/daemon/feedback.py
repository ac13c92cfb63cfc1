# SPDX-License-Identifier: Apache-2.0
"""A slot's feedback: from labels that come in to counts, and to a warning.

Owns the way of a label, and the event ``accuracy_drop``. Which answer a label is for is
decided in ``stats.feedback``, when errors have risen in ``stats.decline``.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Final

from edge_agent.clock import Clock
from edge_agent.config.feedback import FeedbackConfig
from edge_agent.daemon.reports import Reporter
from edge_agent.errors import FeedbackError
from edge_agent.labelling import Label
from edge_agent.runtime.model import Model
from edge_agent.sources.labels import LabelInput, open_labels
from edge_agent.stats.decline import Decline, DeclineWatch
from edge_agent.stats.feedback import AnswerBook
from edge_agent.stats.keeper import StatisticsKeeper
from edge_contract.wire import Scalar

LOOK_US: Final = 1_000_000
NO_MODEL: Final = "no-model"


class Feedback:
    """Takes labels for one slot's answers. Any thread may call it.

    Args:
        slot: The slot's name.
        told: What it was told.
        model: Returns the model that serves.
        keeper: Counts labels.
        clock: The time.
        reporter: Tells of a decline.
        stack: Closes what it opens.

    Raises:
        EdgeError: An input cannot be opened.
    """

    def __init__(  # noqa: PLR0913 - where the parts of feedback come together
        self,
        slot: str,
        told: FeedbackConfig,
        *,
        model: Callable[[], Model | None],
        keeper: StatisticsKeeper,
        clock: Clock,
        reporter: Reporter,
        stack: ExitStack,
    ) -> None:
        self._slot = slot
        self._model = model
        self._keeper = keeper
        self._clock = clock
        self._reporter = reporter
        self.book = AnswerBook(told.remember, told.within.us)
        self._inputs: list[LabelInput] = []
        for one in told.labels:
            opened = open_labels(one)
            stack.callback(opened.close)
            self._inputs.append(opened)
        self._lock = threading.Lock()
        self._watch = DeclineWatch()
        self._digest = ""
        self._errors = 0
        self._next_us = 0

    def take(self, labels: Iterable[Label]) -> Mapping[str, int]:
        """Take labels; return how many were ``taken``, or refused for which reason."""
        found: Counter[str] = Counter(taken=0)
        for answer_id, label in labels:
            try:
                self._take(answer_id, label)
            except FeedbackError as error:
                found[error.reason] += 1
            else:
                found["taken"] += 1
        return found

    def look(self, now_us: int) -> None:
        """Read the inputs, about once a second."""
        if now_us < self._next_us:
            return
        self._next_us = now_us + LOOK_US
        self.book.settle(now_us)
        for one in self._inputs:
            self.take(one.read())

    def describe(self) -> dict[str, Any]:
        """Return how feedback fares, for the status."""
        return {
            "remembered": self.book.remembered,
            "labels": self.book.taken,
            "errors": self._errors,
            "refused": dict(self.book.refused),
            "inputs": [one.account for one in self._inputs],
        }

    def _take(self, answer_id: str, label: str | int) -> None:
        model = self._model()
        if model is None:
            raise FeedbackError(NO_MODEL, "no model serves")
        now_us = self._clock.monotonic_us()
        with self._lock:
            verdict = self.book.take(
                answer_id, label, model.profile, model.digest, now_us
            )
            self._keeper.add_label(bytes.fromhex(model.digest)[:8], verdict)
            self._errors += verdict.is_error
            if model.digest != self._digest:
                self._digest, self._watch = model.digest, DeclineWatch()
            decline = self._watch.add(is_error=verdict.is_error)
        if decline is not None:
            self._warn(decline)

    def _warn(self, decline: Decline) -> None:
        now, before = decline.error_ppm / 10_000, decline.error_ppm_before / 10_000
        fields: dict[str, Scalar] = {
            "slot": self._slot,
            "n": decline.labels,
            "error_ppm": decline.error_ppm,
            "error_ppm_before": decline.error_ppm_before,
        }
        detail = (
            f"models.{self._slot}: {now:.3g} % of the last {decline.labels} labels "
            f"contradict the model, {before:.3g} % before"
        )
        self._reporter.event("accuracy_drop", "warning", detail, fields)
