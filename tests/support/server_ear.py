# SPDX-License-Identifier: Apache-2.0
"""The server's end of MQTT, as simple as it can be: an oracle for link tests.

It opens what devices send, keeps each seq once, and counts how often it came.
It acknowledges only when told to.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_contract.enrolment import Enrolment
from edge_contract.envelope import seal, unseal
from edge_contract.messages import (
    Ack,
    DownMessage,
    State,
    UpMessage,
    decode_state,
    decode_up,
    encode_message,
    kind_of,
)
from edge_contract.topics import down_topic, parse_topic, state_filter, up_filter

NEVER_S = 4_000_000_000


class ServerEar:
    """Listens to one device over a real broker."""

    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self.messages: dict[int, UpMessage] = {}
        self.deliveries: Counter[int] = Counter()
        self.states: list[State] = []
        self.down_seq = 0
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="server-ear",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        self._client = client

    def start(self) -> None:
        self._client.connect(self._enrolment.broker_host, self._enrolment.broker_port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_for(self, condition: Callable[["ServerEar"], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), 20)

    def wait_until_subscribed(self) -> None:
        assert self._subscribed.wait(20)

    def forget_subscription(self) -> None:
        self._subscribed.clear()

    def send(self, message: DownMessage, *, topic: str | None = None) -> None:
        keys = self._enrolment.keys
        own = down_topic(
            self._enrolment.fleet, self._enrolment.device, kind_of(message)
        )
        sealed = seal(encode_message(message), key=keys.down, epoch=keys.epoch, aad=own)
        self.publish(topic or own, sealed)

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1).wait_for_publish(10)

    def next_down_seq(self) -> int:
        self.down_seq += 1
        return self.down_seq

    def acknowledge(self, boot_id: bytes, mark: int, bitmap: bytes = b"") -> None:
        marks = ((boot_id, mark, bitmap),)
        self.send(Ack(self.next_down_seq(), NEVER_S, marks))

    def _on_connect(self, client: paho.Client, *_rest: Any) -> None:
        client.subscribe([(up_filter(), 1), (state_filter(), 1)])

    def _on_subscribe(self, *_rest: Any) -> None:
        self._subscribed.set()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        keys, topic = self._enrolment.keys, parse_topic(message.topic)
        body = unseal(bytes(message.payload), key=keys.up, aad=message.topic)
        with self._changed:
            if topic.direction == "state":
                self.states.append(decode_state(body))
            else:
                up = decode_up(topic.kind or "", body)
                self.messages.setdefault(up.seq, up)
                assert encode_message(self.messages[up.seq]) == body
                self.deliveries[up.seq] += 1
            self._changed.notify_all()
