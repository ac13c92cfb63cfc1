# SPDX-License-Identifier: Apache-2.0
"""True accuracy, from what the agents wrote and the labels that only the demo knows.

Owns: reading one result line, and counting each frame once however often an agent
looped over it. Pure: it opens no file.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

from examples.watch.data import EXERCISES, FRAME_LENGTH, PARTS, Recording

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from examples.watch.programs import Document

__all__ = ["Accuracy", "Answer", "first_unlabelled_rows", "parse_answer", "score"]


class Answer(typing.NamedTuple):
    """What a model said about one frame.

    Attributes:
        recording: Name of the recording, `3L-PEN`.
        start_row: First row of the frame in that recording's file.
        digest: The release that answered.
        exercise: The answer, an index into `EXERCISES`; None where inference failed.
    """

    recording: str
    start_row: int
    digest: str
    exercise: int | None

    @property
    def is_left(self) -> bool:
        """Whether the left arm wore the watch."""
        return self.recording.split("-", maxsplit=1)[0].endswith("L")

    @property
    def is_right_answer(self) -> bool:
        """Whether the answer is the label."""
        truth = EXERCISES.index(self.recording.split("-", maxsplit=1)[1])
        return self.exercise == truth


@dataclass(frozen=True)
class Accuracy:
    """A share of frames.

    Attributes:
        correct: Frames with the right answer.
        frames: Frames.
    """

    correct: int
    frames: int

    @property
    def share(self) -> float:
        """Correct frames of all; 0 without a frame.

        >>> Accuracy(3, 4).share
        0.75
        """
        return self.correct / self.frames if self.frames else 0.0


def parse_answer(line: Document) -> Answer:
    """Parse a result line; its id is `recording:end_row:loop`."""
    recording, end_row, _loop = str(line["id"]).rsplit(":", maxsplit=2)
    return Answer(
        recording=recording,
        start_row=int(end_row) - FRAME_LENGTH,
        digest=str(line["digest"]),
        exercise=None if "error" in line else int(line["label_index"]),
    )


def score(answers: Iterable[Answer], keep: Callable[[Answer], bool]) -> Accuracy:
    """Accuracy over the answers that `keep` accepts, each frame counted once.

    The same model gives the same answer to the same frame, so a repeated frame is no
    new evidence; a failed inference is a wrong answer.
    """
    frames = {
        (answer.recording, answer.start_row, answer.digest): answer
        for answer in answers
        if keep(answer)
    }
    return Accuracy(sum(a.is_right_answer for a in frames.values()), len(frames))


def first_unlabelled_rows(recordings: Iterable[Recording]) -> Mapping[str, int]:
    """Row of each whole recording from which on nobody gave a label."""
    end = PARTS["labelled"][1]
    return {r.name: int(len(r.rows) * end) for r in recordings}
