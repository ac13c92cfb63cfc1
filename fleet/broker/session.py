# SPDX-License-Identifier: Apache-2.0
"""The server's one MQTT connection.

Owns subscribing, handing messages over with the means to confirm them later, and
publishing. A message is confirmed (PUBACK) only when the receiver says so, after its
commit. It neither opens nor interprets messages.
"""

import logging
import threading
from collections.abc import Callable

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_contract.topics import state_filter, up_filter
from fleet.errors import BrokerError

_LOG = logging.getLogger(__name__)
_CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 30
_CONFIRM_SECONDS = 10.0

TakeMessage = Callable[[str, bytes, Callable[[], None]], None]


class MqttSession:
    """A connection that is made again whenever it breaks.

    Args:
        host: The broker.
        port: Its port.
        client_id: Must be the server's alone.
    """

    def __init__(self, host: str, port: int, client_id: str) -> None:
        self._address = (host, port)
        self._take: TakeMessage | None = None
        self._on_ready: Callable[[], None] | None = None
        self._ready = threading.Event()
        self._connection = 0  # packet ids mean something within one connection only
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        self._client.reconnect_delay_set(min_delay=1, max_delay=10)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._received

    def connect(self, take: TakeMessage, on_ready: Callable[[], None]) -> None:
        """Connect and subscribe.

        Args:
            take: Gets each message (topic, payload, confirm), in the session's thread.
            on_ready: Called in a thread of its own after every (re)connection.

        Raises:
            BrokerError: No broker answers.
        """
        self._take, self._on_ready = take, on_ready
        host, port = self._address
        try:
            self._client.connect(host, port, keepalive=_KEEPALIVE_SECONDS)
        except OSError as error:
            message = f"broker {host}:{port}: expected an MQTT 5 broker: {error}"
            step = "check broker.host and broker.port in fleet.yaml"
            raise BrokerError(message, next_step=step) from error
        self._client.loop_start()
        if not self._ready.wait(_CONNECT_SECONDS):
            self._client.loop_stop()
            message = f"broker {host}:{port}: accepted no subscription"
            raise BrokerError(message, next_step="check that it speaks MQTT 5")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish with QoS 1; return False, and drop it, while not connected."""
        if not self._ready.is_set():
            return False
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        return info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def deliver(self, topic: str, payload: bytes) -> bool:
        """Publish with QoS 1; return whether the broker confirmed it in time."""
        if not self._ready.is_set():
            return False
        info = self._client.publish(topic, payload, qos=1)
        try:
            info.wait_for_publish(_CONFIRM_SECONDS)
            return info.is_published()
        except (RuntimeError, ValueError):
            return False  # the connection broke, or its queue is full

    def _connected(
        self,
        client: Client,
        _userdata: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            _LOG.error("broker refuses the server: %s", reason)
            return
        self._connection += 1
        options = SubscribeOptions(qos=1)
        client.subscribe([(up_filter(), options), (state_filter(), options)])

    def _subscribed(
        self,
        _client: Client,
        _userdata: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            _LOG.error("broker refuses the subscription: %s", reasons)
            return
        self._ready.set()
        if self._on_ready is not None:
            # Not in this thread: it must stay free to send what is published.
            threading.Thread(target=self._on_ready, name="session-ready").start()

    def _disconnected(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._ready.clear()
        _LOG.info("broker connection ended: %s", reason)

    def _received(
        self, client: Client, _userdata: object, message: MQTTMessage
    ) -> None:
        if self._take is None:
            return
        connection, mid, qos = self._connection, message.mid, message.qos

        def confirm() -> None:
            if connection == self._connection:
                client.ack(mid, qos)

        self._take(message.topic, bytes(message.payload), confirm)
