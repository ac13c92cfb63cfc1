# SPDX-License-Identifier: Apache-2.0
"""Labels that come back: matched once, refused with a reason, counted and judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import FeedbackError
from edge_agent.flow import Result
from edge_agent.stats.checkpoint import ProducedCounter
from edge_agent.stats.decline import DeclineWatch
from edge_agent.stats.feedback import AnswerBook, Verdict
from edge_agent.stats.keeper import StatisticsKeeper
from edge_contract.window_report import WindowReport
from tests.conformance.samples import real_profile
from tests.support.agent_doubles import MemoryLedger, Observation
from tests.support.keepers import GRID, RELEASE, make_keeper, record
from tests.support.small_profile import small_profile

PROFILE = small_profile()
DIGEST = "ab" * 32
HOUR = 3_600_000_000
RIGHT = Verdict(0, 3, is_error=False, label=0)
WRONG = Verdict(0, 3, is_error=True, label=0)


def answer(name: str, *output: float, digest: str = DIGEST) -> Result:
    values = np.array(output or (0.2, 0.7, 0.1), dtype=np.float32)
    return Result(name, 5_000, digest, values, None)


def book_with(*results: Result, most: int = 100) -> AnswerBook:
    book = AnswerBook(most, HOUR)
    for one in results:
        book.saw(np.zeros(1, np.float32), one)
    return book


def take(book: AnswerBook, name: str, label: str | int, now_us: int = 0) -> Verdict:
    return book.take(name, label, PROFILE, DIGEST, now_us)


@pytest.mark.parametrize(
    ("label", "errors", "number"), [("b", 0, 1), (1, 0, 1), ("c", 1, 2)]
)
def test_a_label_is_compared_with_the_winner(
    label: str | int, errors: int, number: int
) -> None:
    verdict = take(book_with(answer("x")), "x", label)

    # 0.7 lies above 10 edges of 0.05 + 0.9 n / 14
    assert verdict == Verdict(5_000, 11, is_error=bool(errors), label=number)


@pytest.mark.parametrize(
    ("name", "label", "reason"),
    [
        ("never", "a", "unknown-id"),
        ("x", "sunday", "unknown-label"),
        ("x", 3, "unknown-label"),
        ("x", -1, "unknown-label"),
        ("old-model", "a", "other-release"),
    ],
)
def test_what_is_refused_is_counted_under_its_reason(
    name: str, label: str | int, reason: str
) -> None:
    book = book_with(answer("x"), answer("old-model", digest="cd" * 32))

    with pytest.raises(FeedbackError) as caught:
        take(book, name, label)

    assert caught.value.reason == reason
    assert (book.taken, dict(book.refused)) == (0, {reason: 1})


def test_an_answer_takes_one_label_however_often_it_is_sent() -> None:
    book = book_with(answer("x"))
    take(book, "x", "a")

    with pytest.raises(FeedbackError, match="has its label"):
        take(book, "x", "a")

    assert (book.taken, book.refused["again"]) == (1, 1)


def test_a_wrong_label_does_not_use_up_the_answer() -> None:
    book = book_with(answer("x"))
    with pytest.raises(FeedbackError):
        take(book, "x", "sunday")

    assert take(book, "x", "a").is_error


def test_answers_are_forgotten_by_number_and_by_time() -> None:
    book = book_with(*(answer(f"n{number}") for number in range(8)), most=5)
    book.settle(0)
    assert book.remembered == 5

    with pytest.raises(FeedbackError, match="not remembered") as caught:
        take(book, "n2", "a")
    assert caught.value.reason == "expired"
    take(book, "n3", "a", now_us=HOUR)
    with pytest.raises(FeedbackError) as caught:
        take(book, "n4", "a", now_us=HOUR + 1)
    assert caught.value.reason == "expired"


def test_failed_and_nameless_answers_are_not_remembered() -> None:
    book = book_with(Result("x", 0, DIGEST, None, "failed"), answer(""))
    book.settle(0)

    assert book.remembered == 0


def test_a_model_without_classes_takes_none() -> None:
    with pytest.raises(FeedbackError) as caught:
        book_with(answer("x")).take("x", 1, real_profile(), DIGEST, 0)
    assert caught.value.reason == "no-classes"


def test_labels_are_in_the_window_that_was_open_and_outlive_a_restart(
    tmp_path: Path,
) -> None:
    ledger, counter = MemoryLedger(), ProducedCounter(tmp_path / "produced.counter")
    keeper = make_keeper(ledger, counter)
    keeper.prepare(PROFILE, RELEASE, GRID)()
    infer(keeper, 0)
    keeper.add_label(RELEASE[:8], WRONG)
    keeper.add_label(b"another!", WRONG)
    keeper.stop()

    again = make_keeper(ledger, counter)
    again.prepare(PROFILE, RELEASE, GRID)()
    again.add_label(RELEASE[:8], RIGHT)
    infer(again, 64_000)
    again.stop()

    feedback = WindowReport.decode(ledger.reports[0].encode()).feedback()
    assert feedback is not None
    assert np.flatnonzero(feedback.labels).tolist() == [3]
    assert (feedback.labels[3], feedback.errors[3]) == (2, 1)


def test_a_label_without_an_open_window_opens_the_one_of_its_answer(
    tmp_path: Path,
) -> None:
    ledger, counter = MemoryLedger(), ProducedCounter(tmp_path / "produced.counter")
    keeper = make_keeper(ledger, counter)
    keeper.prepare(PROFILE, RELEASE, GRID)()
    keeper.add_label(RELEASE[:8], replace(RIGHT, time_us=130_000))
    keeper.finish_window()

    (report,) = ledger.reports
    assert (report.start_us, report.rows, report.inferences) == (128_000, 0, 0)
    assert report.statistics(PROFILE).rows == 0
    feedback = report.feedback()
    assert feedback is not None
    assert feedback.labels.sum() == 1


def infer(keeper: StatisticsKeeper, time_us: int) -> None:
    rows, output = np.zeros((4, 2), np.float32), np.array([1, 0, 0], np.float32)
    times = np.full(4, time_us, dtype=np.int64)
    one = Observation(
        "a", is_start=True, rows=rows, times_us=times, output=output, latency_ns=1
    )
    record(keeper, one)


def test_errors_that_rise_are_told_soon_and_once() -> None:
    random = np.random.default_rng(1)
    watch = DeclineWatch()
    errors = np.concatenate((random.random(600) < 0.1, random.random(600) < 0.4))

    found = [
        (place, decline)
        for place, is_error in enumerate(errors)
        if (decline := watch.add(is_error=bool(is_error))) is not None
    ]

    ((place, decline),) = found
    assert 630 <= place < 750
    assert 50_000 < decline.error_ppm_before < 150_000
    assert decline.error_ppm > 2 * decline.error_ppm_before


def test_errors_that_stay_raise_no_alarm() -> None:
    random = np.random.default_rng(2)
    alarms = 0
    for share in (0.0, 0.05, 0.3, 0.5):
        for _ in range(5):
            watch = DeclineWatch()
            for is_error in random.random(4000) < share:
                alarms += watch.add(is_error=bool(is_error)) is not None

    assert alarms == 0


def test_errors_that_fall_raise_no_alarm() -> None:
    watch = DeclineWatch()

    found = [watch.add(is_error=place < 300) for place in range(600)]

    assert found == [None] * 600
