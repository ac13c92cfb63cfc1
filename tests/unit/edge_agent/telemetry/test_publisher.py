# SPDX-License-Identifier: Apache-2.0
"""The publishing rules: order, places in flight, and when a row goes again."""

from edge_agent.telemetry.publisher import (
    MAX_IN_FLIGHT,
    MAX_PUBACK_US,
    URGENT_LANE,
    Publisher,
    reconnect_delay_seconds,
    resend_delay_us,
)
from tests.support.randomness import seeded

MINUTE_US = 60_000_000


def test_a_puback_frees_a_place_and_ends_nothing() -> None:
    publisher = Publisher(seeded(1))
    for seq in range(1, MAX_IN_FLIGHT + 1):
        publisher.sent(URGENT_LANE, seq, 0)
    assert publisher.room == 0
    publisher.taken(3)
    assert publisher.room == 1
    assert publisher.due(10 * MINUTE_US) == [3]


def test_an_ack_ends_a_row() -> None:
    publisher = Publisher(seeded(1))
    publisher.sent(URGENT_LANE, 1, 0)
    publisher.taken(1)
    publisher.ended([1])
    assert publisher.due(100 * MINUTE_US) == []
    assert publisher.next_due_us() is None


def test_resending_backs_off_to_an_hour() -> None:
    delays = [resend_delay_us(n, seeded(n)) / MINUTE_US for n in range(1, 12)]
    for attempt, delay in enumerate(delays):
        base = min(2.0 * 2**attempt, 60.0)
        assert 0.75 * base <= delay <= 1.25 * base


def test_a_row_is_not_due_before_its_time() -> None:
    publisher = Publisher(seeded(1))
    publisher.sent(URGENT_LANE, 1, 0)
    publisher.taken(1)
    due_us = publisher.next_due_us()
    assert due_us is not None
    assert publisher.due(due_us - 1) == []
    assert publisher.due(due_us) == [1]
    publisher.sent(URGENT_LANE, 1, due_us)
    assert publisher.due(due_us + MINUTE_US) == []


def test_after_a_reconnect_all_is_unsent() -> None:
    publisher = Publisher(seeded(1))
    publisher.sent(URGENT_LANE, 5, 0)
    publisher.restart()
    assert publisher.cursor(URGENT_LANE) == 0
    assert publisher.room == MAX_IN_FLIGHT


def test_a_missing_puback_is_a_stall() -> None:
    publisher = Publisher(seeded(1))
    publisher.sent(URGENT_LANE, 1, 0)
    assert not publisher.is_stalled(MAX_PUBACK_US - 1)
    assert publisher.next_due_us() == MAX_PUBACK_US
    assert publisher.is_stalled(MAX_PUBACK_US)


def test_reconnecting_is_jittered_between_one_and_sixty_seconds() -> None:
    random = seeded(7)
    delays = [reconnect_delay_seconds(9, random) for _ in range(500)]
    assert min(delays) >= 1.0
    assert max(delays) <= 60.0
    assert len(set(delays)) > 400
