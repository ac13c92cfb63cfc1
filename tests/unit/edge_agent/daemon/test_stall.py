# SPDX-License-Identifier: Apache-2.0
"""Progress: what counts as standing still, and when the watchdog may be fed."""

import pytest

from edge_agent.daemon.stall import Pulse, StallWatch

STILL = Pulse(turns=5, is_looping=True, done=3, is_busy=True)


@pytest.mark.parametrize(
    ("after", "moved"),
    [
        (STILL, False),
        (Pulse(6, is_looping=True, done=3, is_busy=True), False),
        (Pulse(5, is_looping=True, done=4, is_busy=True), False),
        (Pulse(6, is_looping=True, done=4, is_busy=True), True),
        (Pulse(6, is_looping=True, done=3, is_busy=False), True),
        (Pulse(5, is_looping=True, done=3, is_busy=False), False),
        (Pulse(5, is_looping=False, done=3, is_busy=False), True),
        (Pulse(5, is_looping=False, done=3, is_busy=True), False),
    ],
)
def test_a_loop_must_come_round_and_an_inference_must_end(
    after: Pulse, *, moved: bool
) -> None:
    assert after.has_moved(STILL) is moved


def test_a_stall_is_told_once_and_is_over_with_the_next_move() -> None:
    watch = StallWatch(stall_us=100)
    assert watch.look({"a": STILL}, 0) == []
    assert watch.look({"a": STILL}, 99) == []
    assert watch.look({"a": STILL}, 100) == ["a"]
    assert watch.look({"a": STILL}, 500) == []
    assert watch.stalled == {"a"}

    moved = Pulse(6, is_looping=True, done=4, is_busy=True)
    assert watch.look({"a": moved}, 501) == []
    assert watch.stalled == set()
    assert watch.look({"a": moved}, 601) == ["a"]


def test_one_slot_that_stands_still_starves_the_watchdog() -> None:
    watch = StallWatch(stall_us=100)
    moving = [Pulse(n, is_looping=True, done=n, is_busy=False) for n in range(4)]

    assert watch.may_feed({"a": moving[0], "b": STILL})
    assert not watch.may_feed({"a": moving[1], "b": STILL})
    assert watch.may_feed({"a": moving[2], "b": moving[3]})


def test_a_slow_inference_is_waited_for_and_then_feeds() -> None:
    watch = StallWatch(stall_us=10**9)
    busy = Pulse(5, is_looping=True, done=3, is_busy=True)
    assert watch.may_feed({"a": busy})
    assert [watch.may_feed({"a": busy}) for _ in range(3)] == [False] * 3
    assert watch.may_feed({"a": Pulse(6, is_looping=True, done=4, is_busy=True)})
