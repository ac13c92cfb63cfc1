# SPDX-License-Identifier: Apache-2.0
"""The MQTT 5 transport: one connection at a time, through paho-mqtt.

Owns sockets, TLS and packets. It keeps no message: what it is given goes out at once or
is lost with the connection, and the outbox sends it again. It runs in the caller's
thread (``turn``), starts none, and never reconnects by itself; see ``link``.

A connection is a new paho client each time, because paho would send again by itself
what an earlier connection left unacknowledged, past any window.
"""

import select
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.access import pinned_context
from edge_agent.addresses import is_loopback
from edge_agent.errors import LinkError

KEEPALIVE_SECONDS: Final = 60
CONNECT_TIMEOUT_SECONDS: Final = 10.0
RECEIVE_MAXIMUM: Final = 32
MAX_PACKET_BYTES: Final = 256 * 1024
_PAHO_IN_FLIGHT = 64  # above all that we ever have in flight: paho queues nothing
_QOS = 1


@dataclass(frozen=True)
class BrokerAccess:
    """Where the broker is and who we are."""

    host: str
    port: int
    client_id: str
    password: str = field(repr=False)
    certificate_pin: str | None = None


@dataclass(frozen=True)
class Will:
    """What the broker says of us when we vanish; retained."""

    topic: str
    payload: bytes


class Handler(Protocol):
    """Who is told what happens; called inside ``turn``."""

    def on_ready(self) -> None:
        """The broker accepted us and our subscriptions."""

    def on_taken(self, ticket: int, *, accepted: bool) -> None:
        """The broker answered a publish."""

    def on_message(self, topic: str, payload: bytes) -> None:
        """A message came in."""

    def on_lost(self, reason: str) -> None:
        """The connection is over, or was refused."""


class Transport(Protocol):
    """One connection to a broker."""

    def connect(self, will: Will, filters: Sequence[str]) -> None:
        """Begin to connect; ``on_ready`` or ``on_lost`` follows.

        Raises:
            LinkError: The broker cannot be reached or is not the pinned one.
        """

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Send at QoS 1 and return a ticket that ``on_taken`` will name."""

    def turn(self, timeout_seconds: float, wake: socket.socket) -> None:
        """Wait for the network or ``wake`` to be readable, and handle the network."""

    def close(self) -> None:
        """Leave without the will being published, if that is still possible."""


class PahoTransport:
    """The production ``Transport``.

    Raises:
        LinkError: No certificate pin, and the broker is not on loopback.
    """

    def __init__(self, access: BrokerAccess, handler: Handler) -> None:
        if access.certificate_pin is None and not is_loopback(access.host):
            raise LinkError(
                f"broker {access.host}: expected a certificate pin in the enrolment, "
                "because plain MQTT is for loopback only",
                next_step="enrol again with a file from a server that has TLS",
            )
        self._access = access
        self._handler = handler
        self._filters: tuple[str, ...] = ()
        self._lost_reason: str | None = None
        self._client = self._new_client()

    def connect(self, will: Will, filters: Sequence[str]) -> None:
        """Begin to connect; ``on_ready`` or ``on_lost`` follows.

        Raises:
            LinkError: The broker cannot be reached or is not the pinned one.
        """
        self._filters = tuple(filters)
        self._client.will_set(will.topic, will.payload, _QOS, retain=True)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        try:
            self._client.connect(
                self._access.host,
                self._access.port,
                KEEPALIVE_SECONDS,
                clean_start=True,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            raise LinkError(
                f"broker {self._access.host}:{self._access.port}: {error}",
                next_step="check that the server runs; the agent goes on trying",
            ) from error

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Send at QoS 1 and return a ticket that ``on_taken`` will name."""
        return self._client.publish(topic, payload, _QOS, retain=retain).mid

    def turn(self, timeout_seconds: float, wake: socket.socket) -> None:
        """Wait for the network or ``wake`` to be readable, and handle the network."""
        connection = self._client.socket()
        if connection is None:
            self._end("the connection is closed")
            return
        buffered = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        writers = [connection] if self._client.want_write() else []
        readable, writable, _ = select.select(
            [connection, wake], writers, [], 0 if buffered else timeout_seconds
        )
        if writable:
            self._check(self._client.loop_write())
        if buffered or connection in readable:
            self._check(self._client.loop_read())
        self._check(self._client.loop_misc())

    def close(self) -> None:
        """Leave without the will being published, if that is still possible."""
        self._lost_reason = "closed"
        self._client.disconnect()
        connection = self._client.socket()
        if connection is not None:
            connection.close()

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._access.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self._access.client_id, self._access.password)
        client.max_inflight_messages_set(_PAHO_IN_FLIGHT)
        client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        if self._access.certificate_pin is not None:
            client.tls_set_context(pinned_context(self._access.certificate_pin))
            client.tls_insecure_set(True)  # noqa: FBT003 - the pin says who it is
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _check(self, code: MQTTErrorCode) -> None:
        if code not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}:
            self._end(paho.error_string(code))

    def _end(self, reason: str) -> None:
        if self._lost_reason is None:
            self._lost_reason = reason
            self._handler.on_lost(reason)

    def _on_connect(
        self,
        client: paho.Client,
        _data: Any,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._end(f"refused: {reason}")
            return
        client.subscribe([(one, _QOS) for one in self._filters])

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: Any,
        _ticket: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [str(one) for one in reasons if one.is_failure]
        if refused:
            self._end(f"subscription refused: {refused[0]}")
        else:
            self._handler.on_ready()

    def _on_publish(
        self,
        _client: paho.Client,
        _data: Any,
        ticket: int,
        reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        self._handler.on_taken(ticket, accepted=not reason.is_failure)

    def _on_message(
        self,
        _client: paho.Client,
        _data: Any,
        message: paho.MQTTMessage,
    ) -> None:
        self._handler.on_message(message.topic, bytes(message.payload))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._end(str(reason))
