# SPDX-License-Identifier: Apache-2.0
"""Turns: one at a time, first come first served, and nobody forgotten."""

import sys
import threading
from collections.abc import Iterator

import pytest

from edge_agent.runtime.turns import Turns


@pytest.fixture
def often() -> Iterator[None]:
    """Have threads interrupt each other as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def start(*targets: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=one) for one in targets]  # type: ignore[arg-type]
    for one in threads:
        one.start()
    return threads


@pytest.mark.usefixtures("often")
def test_only_one_has_the_turn_and_all_get_theirs() -> None:
    turns, inside, total = Turns(), [0], [0]
    broken: list[int] = []

    def work() -> None:
        for number in range(3000):
            if number % 7 == 0 and not turns.acquire(0.00001):
                continue
            if number % 7:
                turns.__enter__()
            inside[0] += 1
            if inside[0] != 1:
                broken.append(number)
            total[0] += 1
            inside[0] -= 1
            turns.release()

    for one in start(work, work, work, work):
        one.join(60)
        assert not one.is_alive()

    assert broken == []
    assert total[0] > 4 * 2571
    assert turns.acquire(0.0)


def test_turns_come_in_the_order_of_asking() -> None:
    turns, order = Turns(), []
    turns.acquire()
    threads = []
    for number in range(5):

        def ask(number: int = number) -> None:
            with turns:
                order.append(number)

        threads += start(ask)
        while len(turns._line) <= number:
            threads[-1].join(0.001)
    turns.release()
    for one in threads:
        one.join()

    assert order == [0, 1, 2, 3, 4]


def test_who_gives_up_leaves_the_line() -> None:
    turns = Turns()
    turns.acquire()

    assert not turns.acquire(0.01)
    turns.release()

    assert turns.acquire(0.0)
    assert not turns.acquire(0.0)
