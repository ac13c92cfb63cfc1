# SPDX-License-Identifier: Apache-2.0
"""The link against real brokers: nothing lost, nothing believed that should not be."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import SystemClock
from edge_agent.errors import OutboxError
from edge_agent.telemetry.link import Link, LinkHandlers, LinkIdentity
from edge_agent.telemetry.outbox import Outbox
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import seal
from edge_contract.messages import (
    Announce,
    Birth,
    Command,
    Reply,
    Want,
    encode_message,
)
from edge_contract.topics import announce_topic, down_topic
from edge_contract.window_report import WindowReport
from tests.support.mqtt_broker import Mosquitto, Rumqttd, TestBroker
from tests.support.randomness import seeded
from tests.support.server_ear import NEVER_S, ServerEar
from tests.support.small_profile import small_profile, window_builder

PROFILE = small_profile()
DIGEST = bytes(32)


class Device:
    """An outbox and a link with handlers that remember."""

    def __init__(
        self, enrolment: Enrolment, path: Path, *, max_bytes: int = 1 << 20
    ) -> None:
        self.changed = threading.Condition()
        self.wants: list[Want] = []
        self.commands: list[Command] = []
        self.announces: list[Announce] = []
        clock = SystemClock()
        self.outbox = Outbox(path, max_bytes, clock)
        self.link = Link(
            enrolment,
            self.outbox,
            clock,
            LinkIdentity(self._birth, lambda: {"main": DIGEST}),
            LinkHandlers(
                self._keep(self.wants),
                self._keep(self.commands),
                self._keep(self.announces),
            ),
            random=seeded(1),
        )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 20)

    def close_windows(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.outbox.close_window("main", window_builder(PROFILE, number), b"")

    def _keep(self, into: list[Any]) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            with self.changed:
                into.append(message)
                self.changed.notify_all()

        return keep

    def _birth(self, boot_id: bytes, seq: int) -> Birth:
        return Birth(
            boot_id=boot_id,
            seq=seq,
            agent_version="1",
            hardware={},
            runtimes={},
            serving={"main": DIGEST},
            ref_ids={"main": PROFILE.ref_id},
            generation=0,
            refused=(),
            lowest_seq=0,
            down_floor=0,
            time_us=1,
            clock_synced=True,
        )


@pytest.fixture(
    params=[pytest.param(Mosquitto, marks=pytest.mark.broker), Rumqttd],
    ids=["mosquitto", "rumqttd"],
)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    made: TestBroker = request.param(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def enrolment(broker: TestBroker) -> Enrolment:
    return Enrolment(
        fleet="default",
        device="watch-1",
        key=bytes(range(32)),
        epoch=1,
        tuf_root=b"{}",
        broker_host="127.0.0.1",
        broker_port=broker.port,
        api_url="http://127.0.0.1:1",
    )


@pytest.fixture
def ear(enrolment: Enrolment) -> Iterator[ServerEar]:
    made = ServerEar(enrolment)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def device(enrolment: Enrolment, tmp_path: Path) -> Iterator[Device]:
    made = Device(enrolment, tmp_path / "outbox.sqlite")
    yield made
    made.outbox.close()


def windows_heard(ear: ServerEar) -> int:
    return sum(isinstance(one, WindowReport) for one in ear.messages.values())


def test_birth_first_then_windows_until_acknowledged(
    ear: ServerEar, device: Device
) -> None:
    device.close_windows(1, 40)
    device.link.start()
    ear.wait_for(lambda ear: windows_heard(ear) == 40)
    birth = next(iter(ear.messages.values()))
    assert isinstance(birth, Birth)
    assert (birth.seq, birth.lowest_seq) == (41, 1)
    assert ear.states[-1].online
    assert ear.states[-1].serving == {"main": DIGEST}
    assert device.outbox.pending == 41
    ear.acknowledge(device.outbox.boot_id, 41)
    ear.send(Command(ear.next_down_seq(), NEVER_S, "c", "check-update"))
    device.wait_for(lambda: len(device.commands) == 1)
    assert device.outbox.pending == 0
    device.link.stop()
    ear.wait_for(lambda ear: not ear.states[-1].online)


def test_lost_acks_mean_sent_again_and_counted_once(
    broker: TestBroker, ear: ServerEar, device: Device
) -> None:
    device.close_windows(1, 10)
    device.link.start()
    ear.wait_for(lambda ear: windows_heard(ear) == 10)
    ear.forget_subscription()
    broker.stop()
    device.close_windows(11, 10)
    broker.start()
    ear.wait_until_subscribed()
    ear.wait_for(lambda ear: windows_heard(ear) == 20)
    ear.wait_for(lambda ear: max(ear.deliveries.values()) >= 2)
    rows = [one.rows for one in ear.messages.values() if isinstance(one, WindowReport)]
    assert rows == [8] * 20
    ear.wait_for(
        lambda ear: sum(isinstance(one, Birth) for one in ear.messages.values()) == 2
    )
    device.link.stop()
    assert device.outbox.pending == 22


def test_a_command_runs_once_and_is_answered_once(
    ear: ServerEar, device: Device
) -> None:
    device.link.start()
    ear.wait_for(lambda ear: bool(ear.messages))
    command = Command(ear.next_down_seq(), NEVER_S, "c1", "sample", {"head": "0.3"})
    ear.send(command)
    ear.send(replace(command, down_seq=ear.next_down_seq()))
    device.wait_for(lambda: bool(device.commands))
    device.link.reply("c1", accepted=False, code="agent.consent")
    ear.send(replace(command, down_seq=ear.next_down_seq()))
    ear.send(Want(ear.next_down_seq(), NEVER_S, 1, {}, {}))
    device.wait_for(lambda: bool(device.wants))
    assert [one.id for one in device.commands] == ["c1"]
    ear.wait_for(lambda ear: any(isinstance(x, Reply) for x in ear.messages.values()))
    device.link.stop()
    replies = [one for one in ear.messages.values() if isinstance(one, Reply)]
    assert [(one.command, one.accepted, one.code) for one in replies] == [
        ("c1", False, "agent.consent")
    ]


def test_forged_moved_replayed_and_expired_messages_are_refused(
    ear: ServerEar, device: Device, enrolment: Enrolment
) -> None:
    device.link.start()
    ear.wait_for(lambda ear: bool(ear.messages))
    want_topic = down_topic("default", "watch-1", "want")
    want = Want(ear.next_down_seq(), NEVER_S, 1, {}, {})
    forged = seal(encode_message(want), key=bytes(32), epoch=1, aad=want_topic)
    ear.publish(want_topic, forged)
    ear.send(want, topic=down_topic("default", "watch-1", "cmd"))
    ear.publish(want_topic, b"\xff" * 40)
    ear.publish(announce_topic("default"), b"not cbor")
    ear.send(want)
    ear.send(replace(want, generation=9))
    ear.send(Want(ear.next_down_seq(), NEVER_S, 2, {}, {}))
    ear.publish(announce_topic("default"), encode_message(Announce(3, 0)))
    device.wait_for(lambda: len(device.wants) == 2 and bool(device.announces))
    assert [one.generation for one in device.wants] == [1, 2]
    assert device.link.refused == {
        "envelope.mac": 2,
        "envelope.format": 1,
        "message": 1,
        "message.replay": 1,
    }
    device.link.stop()
    assert enrolment.device == "watch-1"


def test_a_full_outbox_drains_and_greets_then(
    ear: ServerEar, enrolment: Enrolment, tmp_path: Path
) -> None:
    device = Device(enrolment, tmp_path / "full.sqlite", max_bytes=4000)
    device.close_windows(1, 40)  # of a profile that it does not know: none can merge
    with pytest.raises(OutboxError, match="expected at most 4000 bytes"):
        device.outbox.replace_unsent(0, "birth", device.link._birth)
    device.link.start()

    def acknowledge(ear: ServerEar) -> bool:
        windows = [q for q, m in ear.messages.items() if isinstance(m, WindowReport)]
        if windows:
            ear.acknowledge(device.outbox.boot_id, max(windows))
        return windows_heard(ear) == 40

    end = time.monotonic() + 20
    while not acknowledge(ear):
        assert time.monotonic() < end
        time.sleep(0.05)
    ear.wait_for(lambda ear: any(isinstance(x, Birth) for x in ear.messages.values()))
    device.link.stop()
    device.outbox.close()


def test_the_will_says_offline_when_the_device_vanishes(
    ear: ServerEar, device: Device
) -> None:
    device.link.start()
    ear.wait_for(lambda ear: bool(ear.states) and ear.states[-1].online)
    transport = device.link._transport
    connection = transport._client.socket()  # type: ignore[union-attr]
    connection.shutdown(2)
    ear.wait_for(lambda ear: any(not one.online for one in ear.states))
    ear.wait_for(lambda ear: ear.states[-1].online)
    device.link.stop()
