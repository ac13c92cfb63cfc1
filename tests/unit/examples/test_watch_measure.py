# SPDX-License-Identifier: Apache-2.0
"""True accuracy counts each frame once, and a failed inference as wrong."""

import numpy as np

from examples.watch.data import Recording
from examples.watch.measure import (
    Accuracy,
    Answer,
    first_unlabelled_rows,
    parse_answer,
    score,
)


def test_a_result_line_is_read() -> None:
    line = {"id": "5L-ABD:192:3", "digest": "aa", "label_index": 1, "output": []}
    answer = parse_answer(line)
    assert answer == Answer("5L-ABD", 64, "aa", 1)
    assert answer.is_left
    assert answer.is_right_answer


def test_a_failed_inference_is_a_wrong_answer_of_the_right_arm() -> None:
    line = {"id": "3R-PEN:128:0", "digest": "aa", "error": "not finite"}
    answer = parse_answer(line)
    assert answer == Answer("3R-PEN", 0, "aa", None)
    assert not answer.is_left
    assert not answer.is_right_answer


def test_a_repeated_frame_counts_once_a_release() -> None:
    answers = [
        Answer("3R-PEN", 0, "one", 0),
        Answer("3R-PEN", 0, "one", 0),
        Answer("3R-PEN", 64, "one", 4),
        Answer("3R-PEN", 0, "two", 0),
        Answer("3L-PEN", 0, "one", 5),
    ]
    assert score(answers, lambda a: a.digest == "one") == Accuracy(1, 3)
    assert score(answers, lambda a: not a.is_left) == Accuracy(2, 3)
    assert score(answers, lambda _a: False).share == 0.0


def test_unlabelled_rows_begin_where_the_labelled_part_ends() -> None:
    whole = Recording(5, "left", 2, np.zeros((1001, 6), np.float32))
    assert first_unlabelled_rows([whole]) == {"5L-FEL": 300}
