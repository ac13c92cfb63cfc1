# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from edge_contract.envelope import unseal
from edge_contract.messages import (
    Ack,
    Announce,
    Command,
    DownMessage,
    Want,
    decode_announce,
    decode_down,
)
from edge_contract.topics import announce_topic, parse_topic
from fleet.devices.downlink import MqttDownlink
from fleet.errors import NotFoundError, RequestError
from tests.support.fleet_world import NOW_US, FleetWorld, MemoryBus


class Channel:
    """A downlink over a bus in memory."""

    def __init__(self, folder: Path) -> None:
        self.world = FleetWorld(folder)
        self.bus = MemoryBus()
        self.downlink = MqttDownlink(
            self.world.engine, self.world.ring, self.world.clock, self.bus
        )

    def take(self) -> list[DownMessage | Announce]:
        """Open and forget what was published."""
        opened: list[DownMessage | Announce] = []
        for topic, payload, _ in self.bus.published:
            parsed = parse_topic(topic)
            if parsed.kind is None:
                opened.append(decode_announce(payload))
                continue
            keys = self.world.ring.find(str(parsed.device), 1)
            body = unseal(payload, key=keys.down, aad=topic)
            opened.append(decode_down(parsed.kind, body))
        self.bus.published.clear()
        return opened


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path)


def send_sample(channel: Channel, valid_seconds: int = 60) -> str:
    return channel.downlink.send_command(
        "watch-1", "sample", {"request": "r"}, valid_seconds=valid_seconds
    )


def test_a_command_is_repeated_with_a_higher_number_until_it_is_replied_to(
    channel: Channel,
) -> None:
    command = send_sample(channel)
    channel.downlink.greet_all()
    channel.downlink.greet_all()

    assert channel.take() == [
        Command(n, NOW_US // 10**6 + 60, command, "sample", {"request": "r"})
        for n in (1, 2, 3)
    ]
    channel.world.ingest(channel.world.device().reply(1, command))
    channel.downlink.greet_all()
    assert channel.take() == []


def test_the_reply_of_another_device_closes_no_command(channel: Channel) -> None:
    command = send_sample(channel)
    channel.take()

    channel.world.ingest(channel.world.device("watch-2").reply(1, command))
    channel.downlink.greet_all()

    assert len(channel.take()) == 1


def test_a_command_that_expired_is_not_sent(channel: Channel) -> None:
    send_sample(channel, valid_seconds=60)
    channel.take()
    channel.world.clock.now_us += 60_000_000

    channel.downlink.greet_all()

    assert channel.take() == []


def test_a_command_made_while_the_broker_is_away_goes_out_later(
    channel: Channel,
) -> None:
    channel.bus.is_up = False
    command = send_sample(channel)
    channel.bus.is_up = True

    channel.downlink.greet_all()

    (sent,) = channel.take()
    assert isinstance(sent, Command)
    assert sent.id == command


def test_a_birth_raises_the_number_above_the_device_s_floor(channel: Channel) -> None:
    device = channel.world.device()
    channel.world.ingest(device.birth(seq=1, lowest_seq=1, down_floor=1000))
    channel.downlink.publish_announce("default", 7, 60)
    channel.downlink.greet("watch-1")
    channel.downlink.send_acks({"watch-1": ((device.boot_id, 5, b"\2"),)})

    now_s = NOW_US // 10**6
    assert channel.take() == [
        Announce(7, 60),
        Want(1001, now_s + 7 * 86_400, 0, {}, {}),
        Announce(7, 60),
        Ack(1002, now_s + 600, ((device.boot_id, 5, b"\2"),)),
    ]


def test_announce_and_want_are_retained(channel: Channel) -> None:
    channel.downlink.publish_announce("default", 7, 60)
    channel.downlink.greet("watch-1")

    kept = [(topic, retain) for topic, _, retain in channel.bus.published]
    assert kept == [
        (announce_topic("default"), True),
        ("edge/1/default/watch-1/down/want", True),
        (announce_topic("default"), True),
    ]


def test_what_cannot_be_sent_is_refused(channel: Channel) -> None:
    with pytest.raises(NotFoundError, match="device watch-9"):
        channel.downlink.send_command("watch-9", "sample", {}, valid_seconds=1)
    with pytest.raises(RequestError, match="found format-disk"):
        channel.downlink.send_command("watch-1", "format-disk", {}, valid_seconds=1)
    assert channel.take() == []
