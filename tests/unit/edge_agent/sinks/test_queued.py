# SPDX-License-Identifier: Apache-2.0
"""The queue before a sink: it never stops inference, whatever the outlet does."""

import time

import pytest

from edge_agent.errors import SinkError, SinkRefusedError
from edge_agent.flow import Result
from edge_agent.sinks import queued
from edge_agent.sinks.fan_out import FanOut
from edge_agent.sinks.queued import QueuedSink
from tests.support.sinks import ListOutlet, await_true, make_result

NAMES = [f"r{number}" for number in range(50)]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(queued, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(queued, "CLOSE_SECONDS", 0.5)


def make_sink(outlet: ListOutlet, queue: int = 1000, batch: int = 8) -> QueuedSink:
    return QueuedSink("test", outlet, queue, batch=batch)


def test_results_arrive_whole_and_in_order() -> None:
    outlet = ListOutlet()
    sink = make_sink(outlet)
    for name in NAMES:
        sink.write(make_result(name))
    sink.close()

    assert outlet.ids == NAMES
    assert max(outlet.batches) <= 8
    assert outlet.is_closed
    assert sink.account == {"queue": 0, "taken": 50, "dropped": 0}


def test_a_failure_is_tried_again_and_nothing_is_lost() -> None:
    outlet = ListOutlet()
    outlet.error = SinkError("the disk is full")
    sink = make_sink(outlet)
    for name in NAMES:
        sink.write(make_result(name))
    await_true(lambda: int(sink.account.get("failures", 0)) >= 3)
    outlet.error = None
    await_true(lambda: sink.account["taken"] == 50)
    sink.close()

    assert outlet.ids == NAMES
    assert sink.account["problem"] == "the disk is full"
    assert sink.account["dropped"] == 0


def test_a_refusal_drops_the_batch_and_goes_on() -> None:
    outlet = ListOutlet()
    outlet.error = SinkRefusedError("no such page")
    sink = make_sink(outlet)
    sink.write(make_result("a"))
    await_true(lambda: sink.account["dropped"] == 1)
    outlet.error = None
    sink.write(make_result("b"))
    sink.close()

    assert outlet.ids == ["b"]
    assert sink.account["refused"] == 1


def test_an_outlet_that_blocks_costs_the_oldest_results_and_no_time() -> None:
    outlet = ListOutlet()
    outlet.gate.clear()
    sink = make_sink(outlet, queue=10)
    sink.write(make_result("first"))
    await_true(lambda: not sink._queue)  # the thread hangs with it
    for name in NAMES:
        sink.write(make_result(name))
    assert sink.account["dropped"] == 40
    outlet.gate.set()
    sink.close()

    assert outlet.ids == ["first", *NAMES[-10:]]


def test_closing_gives_up_on_an_outlet_that_hangs() -> None:
    outlet = ListOutlet()
    outlet.gate.clear()
    sink = make_sink(outlet)
    for name in NAMES:
        sink.write(make_result(name))
    start = time.monotonic()
    sink.close()
    took = time.monotonic() - start
    assert sink.account["dropped"] == 50
    outlet.gate.set()
    sink._thread.join()
    # CLOSE_SECONDS is half a second; an order of magnitude above it, it hung.
    assert took < 5


class BrokenSink:
    def __init__(self) -> None:
        self.is_closed = False

    def write(self, result: Result) -> None:
        raise SinkError(f"no {result.id}")

    def flush(self) -> None:
        raise SinkError("no flush")

    def close(self) -> None:
        self.is_closed = True


def test_what_fails_in_one_sink_does_not_reach_the_others() -> None:
    outlet, broken = ListOutlet(), BrokenSink()
    fan = FanOut({"broken": broken, "good": make_sink(outlet)})
    with pytest.raises(SinkError, match="no a"):
        fan.write(make_result("a"))
    with pytest.raises(SinkError, match="no flush"):
        fan.flush()
    fan.close()

    assert outlet.ids == ["a"]
    assert broken.is_closed
    assert fan.account == {"good.queue": 0, "good.taken": 1, "good.dropped": 0}
