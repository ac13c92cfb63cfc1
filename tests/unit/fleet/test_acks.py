# SPDX-License-Identifier: Apache-2.0
from fleet.ingest.acks import AckSchedule

A, B = bytes(8), b"\1" * 8


def test_the_first_ack_is_due_at_once_and_the_next_after_the_interval() -> None:
    schedule = AckSchedule(60.0)
    schedule.note([("d", A)])

    assert schedule.take_due(0.0) == {"d": [A]}
    schedule.note([("d", A), ("d", B), ("d", A)])
    assert schedule.take_due(59.9) == {}
    assert schedule.take_due(60.0) == {"d": [A, B]}
    assert schedule.take_due(200.0) == {}


def test_more_boot_ids_than_fit_an_ack_wait_for_the_next() -> None:
    schedule = AckSchedule(1.0)
    boots = [bytes([n]) * 8 for n in range(17)]
    schedule.note([("d", boot) for boot in boots])

    assert schedule.take_due(0.0) == {"d": boots[:16]}
    assert schedule.take_due(1.0) == {"d": boots[16:]}
