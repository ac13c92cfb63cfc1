# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from fleet.ingest.acks import AckSchedule
from fleet.ingest.feature import Inlet
from fleet.ingest.recorder import Outcome
from tests.support.fleet_world import FleetWorld

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


def test_an_ack_that_could_not_be_sent_is_due_again(tmp_path: Path) -> None:
    world = FleetWorld(tmp_path)
    device = world.device()
    sent: list[object] = []
    problems = [OSError("the disk is busy")]

    def send(acks: object) -> None:
        if problems:
            raise problems.pop()
        sent.append(acks)

    inlet = Inlet(world.services(), world.ring, send, lambda _: None)
    world.ingest(device.window(1))
    inlet._after_commit(Outcome(touched={("watch-1", device.boot_id)}))
    with pytest.raises(OSError, match="busy"):
        inlet.send_due_acks()
    inlet.send_due_acks()
    assert sent == []
    world.clock.now_us += 60_000_000
    inlet.send_due_acks()
    assert sent == [{"watch-1": ((device.boot_id, 1, b""),)}]
