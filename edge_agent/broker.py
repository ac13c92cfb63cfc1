# SPDX-License-Identifier: Apache-2.0
"""A broker of the plant or the house, for sources and sinks: one connection, kept up.

Owns the thread that connects, waits with jitter, and connects again. The fleet's own
link, with its outbox, is ``telemetry``'s; here nothing is kept. A connection is a new
paho client each time: paho would send again by itself what an earlier one left.
"""

import logging
import ssl
import threading
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.access import read_secret
from edge_agent.addresses import is_loopback
from edge_agent.errors import LinkError
from edge_agent.retry import retry_delay_seconds

KEEPALIVE_SECONDS: Final = 30
CONNECT_TIMEOUT_SECONDS: Final = 10.0
LONGEST_PAUSE_SECONDS: Final = 60.0
TURN_SECONDS: Final = 0.25
JOIN_SECONDS: Final = 15.0
_PLAIN_PORT: Final = 1883
_TLS_PORT: Final = 8883
_LOG = logging.getLogger(__name__)


class BrokerOptions(Protocol):
    """Where a broker is and who we are; see ``config.sources.MqttSourceConfig``."""

    @property
    def host(self) -> str: ...  # noqa: D102 - the class says it
    @property
    def port(self) -> int | None: ...  # noqa: D102
    @property
    def client_id(self) -> str: ...  # noqa: D102
    @property
    def username(self) -> str | None: ...  # noqa: D102
    @property
    def password_file(self) -> Path | None: ...  # noqa: D102
    @property
    def tls(self) -> bool: ...  # noqa: D102
    @property
    def ca_file(self) -> Path | None: ...  # noqa: D102


class BrokerUser(Protocol):
    """Who uses a connection; called on its thread."""

    def on_ready(self, client: paho.Client) -> None:
        """The broker accepted us: subscribe, if anything."""

    def on_message(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        """A message came in."""

    def on_lost(self, reason: str) -> None:
        """The connection is over, or could not be made."""


class BrokerConnection:
    """Keeps a connection to a broker until it is closed.

    Args:
        options: Where it is and who we are.
        user: Who is told what happens.
        random: Jitters the pauses.

    Raises:
        LinkError: A password would travel in plain text, or a file cannot be read.
    """

    def __init__(
        self, options: BrokerOptions, user: BrokerUser, random: Random | None = None
    ) -> None:
        self._options = options
        self._user = user
        self._random = random or SystemRandom()
        self._password = _password(options)
        self._tls = _context(options)
        self.port = options.port or (_TLS_PORT if options.tls else _PLAIN_PORT)
        self._closed = threading.Event()
        self._client: paho.Client | None = None
        self._ended = threading.Event()
        self._reason = ""
        self.is_connected = False
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def start(self) -> None:
        """Start the thread; the broker need not be there."""
        self._thread.start()

    def publish(self, topic: str, payload: bytes, qos: int) -> paho.MQTTMessageInfo:
        """Send a message.

        Raises:
            LinkError: There is no connection.
        """
        client = self._client
        if client is None or not self.is_connected:
            msg = f"broker {self._options.host}:{self.port}: no connection"
            raise LinkError(msg, next_step="check that it runs; we go on trying")
        return client.publish(topic, payload, qos)

    def close(self) -> None:
        """Leave the broker, and wait for the thread."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            was_connected, reason = self._connect()
            if self._closed.is_set():
                return
            self._user.on_lost(f"broker {self._options.host}:{self.port}: {reason}")
            failures = 1 if was_connected else failures + 1
            pause = retry_delay_seconds(failures, LONGEST_PAUSE_SECONDS, self._random)
            self._closed.wait(pause)

    def _connect(self) -> tuple[bool, str]:
        """Live through one connection; return whether there was one, and its end."""
        self._ended.clear()
        was_connected = False
        client = self._client = self._new_client()
        try:
            client.connect(self._options.host, self.port, KEEPALIVE_SECONDS)
            while not (self._ended.is_set() or self._closed.is_set()):
                code = client.loop(TURN_SECONDS)
                was_connected |= self.is_connected
                if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    self._end(paho.error_string(code))
        except (OSError, ValueError) as error:
            self._end(str(error))
        finally:
            self.is_connected = False
            self._client = None
            client.disconnect()
            connection = client.socket()
            if connection is not None:
                connection.close()
        return was_connected, self._reason

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._options.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if self._options.username is not None:
            client.username_pw_set(self._options.username, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

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
        self.is_connected = True
        _LOG.info("connected to broker %s:%d", self._options.host, self.port)
        self._user.on_ready(client)

    def _on_message(
        self, _client: paho.Client, _data: Any, message: paho.MQTTMessage
    ) -> None:
        self._user.on_message(
            message.topic, bytes(message.payload), is_retained=message.retain
        )

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._end(str(reason))

    def _end(self, reason: str) -> None:
        """Note why the connection is over; the first reason is the one that counts."""
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()


class _Visitor:
    """Hears whether a broker takes us; a ``BrokerUser``."""

    def __init__(self) -> None:
        self.reason = ""
        self.heard = threading.Event()

    def on_ready(self, client: paho.Client) -> None:
        del client
        self.heard.set()

    def on_message(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        pass

    def on_lost(self, reason: str) -> None:
        if not self.heard.is_set():
            self.reason = reason
            self.heard.set()


def visit_broker(options: BrokerOptions, patience_seconds: float = 10.0) -> str:
    """Connect once, and leave again; for ``edge-agent check``.

    Where a client id is given, whoever holds it is driven out.

    Returns:
        Who answered.

    Raises:
        LinkError: The broker is not there, refuses, or says nothing; or see
            ``BrokerConnection``.
    """
    visitor = _Visitor()
    connection = BrokerConnection(options, visitor)
    where = f"broker {options.host}:{connection.port}"
    connection.start()
    is_heard = visitor.heard.wait(patience_seconds)
    connection.close()
    if not is_heard or visitor.reason:
        reason = visitor.reason or f"{where}: no answer in {patience_seconds:g} s"
        raise LinkError(
            reason, next_step="check that it runs and is in reach, and who may log in"
        )
    return f"{where} answers"


class _Socket(ssl.SSLSocket):
    """A TLS socket that closes itself where the handshake fails: paho would not."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002
        """Shake hands."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _password(options: BrokerOptions) -> str | None:
    if options.password_file is None:
        return None
    if not (options.tls or is_loopback(options.host)):
        msg = f"broker {options.host}: expected tls, because a password is given"
        raise LinkError(msg, next_step="set tls: true, or leave password_file out")
    return read_secret(options.password_file)


def _context(options: BrokerOptions) -> ssl.SSLContext | None:
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        msg = f"broker {options.host}: ca_file {options.ca_file}: {error}"
        raise LinkError(msg, next_step="name a file of certificates (PEM)") from error
    context.sslsocket_class = _Socket
    return context
