# SPDX-License-Identifier: Apache-2.0
"""The demo fails when a fact does not hold, each fact by itself."""

from dataclasses import replace

import pytest

from examples.watch.facts import Ledger, Outcome, Traffic, format_facts, judge
from examples.watch.measure import Accuracy

EXACT = Ledger(
    produced=1000, open=2, closed=990, waiting=0, counted=993, lost=5, received=990
)
GOOD = Outcome(
    before=Accuracy(98, 100),
    drifted=Accuracy(30, 100),
    after=Accuracy(90, 100),
    others_after=Accuracy(97, 100),
    moved=("watch-5", "watch-7"),
    flagged={"watch-5": ("ax",), "watch-7": ("ax", "ay")},
    delay_windows={"watch-5": 21, "watch-7": 28},
    windows_after_change=160,
    is_clear=True,
    updated=1,
    failed=0,
    books={"watch-5": EXACT},
    killed="watch-6",
    traffic={"watch-5": Traffic(raw=100_000, messages=30_000)},
    sample_bytes={"watch-5": 2048},
    memory={"watch-5": 40 * 2**20},
    seconds={"train": 10.0},
)

BROKEN = {
    "true accuracy drifted": replace(GOOD, drifted=Accuracy(97, 100)),
    "true accuracy after, unlabelled part": replace(GOOD, after=Accuracy(79, 100)),
    "the other four after": replace(GOOD, others_after=Accuracy(0, 0)),
    "devices flagged": replace(GOOD, flagged={**GOOD.flagged, "watch-3": ("wx",)}),
    "windows after the change": replace(GOOD, windows_after_change=149),
    "verdicts open at the end": replace(GOOD, is_clear=False),
    "failed inferences": replace(GOOD, failed=1),
    "devices on the second release": replace(GOOD, updated=0),
}


def test_all_facts_hold_when_the_loop_is_closed() -> None:
    facts = judge(GOOD)
    assert [fact.name for fact in facts if not fact.holds] == []
    table = format_facts(facts)
    assert "0.900 (100 frames)" in table
    assert "1000 = 993 counted + 5 lost + 2 open" in table
    assert "NO:" not in table


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_one_fact_that_does_not_hold(name: str) -> None:
    facts = judge(BROKEN[name])
    assert [fact.name for fact in facts if not fact.holds] == [name]
    assert "NO:" in format_facts(facts)


def test_a_missed_device_is_no_success() -> None:
    facts = judge(replace(GOOD, flagged={"watch-5": ("ax",)}))
    assert [f.name for f in facts if not f.holds] == ["devices flagged"]


@pytest.mark.parametrize(
    "wrong",
    [
        replace(EXACT, counted=994),
        replace(EXACT, lost=4),
        replace(EXACT, received=989),
        replace(EXACT, received=991),
        replace(EXACT, waiting=1),
    ],
)
def test_books_that_are_off_by_one_do_not_hold(wrong: Ledger) -> None:
    assert EXACT.is_exact
    assert not wrong.is_exact
    facts = judge(replace(GOOD, books={"watch-5": EXACT, "watch-6": wrong}, updated=2))
    assert {f.name for f in facts if not f.holds} == {
        "windows",
        "inferences (watch-6 was killed)",
    }
