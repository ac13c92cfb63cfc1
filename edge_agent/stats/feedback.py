# SPDX-License-Identifier: Apache-2.0
"""Labels that come back: which answer each is for, and whether it was right.

Owns the recent answers of one slot, bounded by number and by time, and what becomes of
a label: it is taken once, or refused for a reason that is counted. The hot path pays
for keeping a reference; bins and winners are looked up when a label asks. Pure but for
a lock; see ``keeper`` for where labels are counted.
"""

import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_agent.errors import FeedbackError
from edge_agent.flow import Float32, Result
from edge_contract.profile import OutputReference, ReferenceProfile
from edge_contract.window import top_two

UNKNOWN: Final = "unknown-id"
EXPIRED: Final = "expired"
AGAIN: Final = "again"
OTHER_RELEASE: Final = "other-release"
UNKNOWN_LABEL: Final = "unknown-label"
NO_CLASSES: Final = "no-classes"
_FRESH: Final = 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a label says of an earlier answer.

    Attributes:
        time_us: Event time of the answer.
        confidence_bin: Where the model's confidence lies in the reference profile.
        is_error: Whether the label contradicts the model.
        label: The label's number.
    """

    time_us: int
    confidence_bin: int
    is_error: bool
    label: int


@dataclass(slots=True)
class _Answer:
    time_us: int
    came_us: int
    output: Float32 | None  # None: it has its label
    label: int | None = None


class AnswerBook:
    """Remembers recent answers of one slot, until their labels come; a ``Watcher``.

    Args:
        most: How many.
        within_us: For how long.
    """

    def __init__(self, most: int, within_us: int) -> None:
        self._most = most
        self._within_us = within_us
        self._fresh: deque[Result] = deque(maxlen=max(_FRESH, most))
        self._answers: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._expired: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self.taken = 0
        self.refused: Counter[str] = Counter()

    @property
    def remembered(self) -> int:
        """Answers that a label may still come for."""
        return len(self._answers)

    def saw(self, data: Float32, result: Result) -> None:
        """Keep one answer; see ``Watcher.saw``."""
        del data
        if result.output is not None and result.id:
            self._fresh.append(result)

    def settle(self, now_us: int) -> None:
        """Take in what was answered since; called about once a second.

        Args:
            now_us: The time, of a clock that never goes back.
        """
        with self._lock:
            self._settle(now_us)

    def label_of(self, answer_id: str, digest: str) -> int | None:
        """Return the label that came for an answer; None where none did."""
        with self._lock:
            answer = self._answers.get((answer_id, digest))
            return None if answer is None else answer.label

    def take(
        self,
        answer_id: str,
        label: str | int,
        profile: ReferenceProfile,
        digest: str,
        now_us: int,
    ) -> Verdict:
        """Take the label of one answer.

        Args:
            answer_id: The answer's id, as in the results.
            label: The class, by name or number.
            profile: The reference profile of the release that serves.
            digest: Its digest.
            now_us: The time, of a clock that never goes back.

        Raises:
            FeedbackError: The label is refused; ``reason`` says why, and it is counted.
        """
        with self._lock:
            self._settle(now_us)
            try:
                verdict = self._judge(answer_id, label, profile, digest)
            except FeedbackError as error:
                self.refused[error.reason] += 1
                raise
            self.taken += 1
            return verdict

    def _settle(self, now_us: int) -> None:
        while self._fresh:
            result = self._fresh.popleft()
            key = (result.id, result.digest)
            self._answers[key] = _Answer(result.time_us, now_us, result.output)
            self._answers.move_to_end(key)
        oldest_us = now_us - self._within_us
        while self._answers:
            key, answer = next(iter(self._answers.items()))
            if len(self._answers) <= self._most and answer.came_us >= oldest_us:
                break
            del self._answers[key]
            self._expired[key[0]] = None
        while len(self._expired) > self._most:
            self._expired.popitem(last=False)

    def _judge(
        self, answer_id: str, label: str | int, profile: ReferenceProfile, digest: str
    ) -> Verdict:
        outputs = profile.outputs
        if not isinstance(outputs, OutputReference):
            raise FeedbackError(NO_CLASSES, "the model that serves has no classes")
        answer = self._find(answer_id, digest)
        number = _number(label, outputs.labels)
        if answer.output is None:
            raise FeedbackError(AGAIN, f"answer {answer_id[:80]!r} has its label")
        winners, confidence, _ = top_two(answer.output[np.newaxis])
        edges = outputs.confidence_edges
        place = int(edges.searchsorted(confidence, side="right")[0])
        answer.output, answer.label = None, number
        return Verdict(answer.time_us, place, int(winners[0]) != number, number)

    def _find(self, answer_id: str, digest: str) -> _Answer:
        answer = self._answers.get((answer_id, digest))
        if answer is not None:
            return answer
        shown = repr(answer_id[:80])
        if any(key[0] == answer_id for key in self._answers):
            raise FeedbackError(OTHER_RELEASE, f"answer {shown} is an earlier model's")
        if answer_id in self._expired:
            raise FeedbackError(EXPIRED, f"answer {shown} is not remembered any more")
        raise FeedbackError(UNKNOWN, f"answer {shown} was never given")


def _number(label: str | int, labels: tuple[str, ...]) -> int:
    """Return a class's number, by its name or number."""
    if isinstance(label, str):
        if label in labels:
            return labels.index(label)
    elif 0 <= label < len(labels):
        return label
    known = ", ".join(labels[:10])
    msg = f"expected a class ({known}) or its number, found {str(label)[:80]!r}"
    raise FeedbackError(UNKNOWN_LABEL, msg)
