# SPDX-License-Identifier: Apache-2.0
"""The ``mqtt`` sink: a JSON message an inference, to a broker.

Owns the topic of a result, and waiting for what the broker takes: at QoS 1 a batch is
written when each message of it is acknowledged, so a lost connection may repeat some.
"""

import time
from collections.abc import Sequence
from typing import Final

import paho.mqtt.client as paho

from edge_agent.broker import BrokerConnection
from edge_agent.config.sinks import MqttSinkConfig
from edge_agent.errors import LinkError, SinkError
from edge_agent.flow import Result
from edge_agent.sinks.lines import format_result

ACKNOWLEDGE_SECONDS: Final = 10.0
BATCH: Final = 16  # below what paho has in flight: it queues nothing
STREAM: Final = "{stream}"
_POLL_SECONDS: Final = 0.01


class MqttOutlet:
    """Publishes results; connects in a thread of its own.

    Args:
        config: What it was told.

    Raises:
        SinkError: The topic is none.
        LinkError: A password would travel in plain text, or a file cannot be read.
    """

    def __init__(self, config: MqttSinkConfig) -> None:
        if not config.topic or any(one in config.topic for one in "+#\0"):
            msg = (
                f"sink mqtt: expected a topic without wildcards, found {config.topic!r}"
            )
            raise SinkError(msg, next_step="name one like edge/results/{stream}")
        self._config = config
        self._problem = "not connected yet"
        self._connection = BrokerConnection(config, self)
        self._connection.start()

    def put(self, results: Sequence[Result]) -> int:
        """Publish results; see ``Outlet.put``.

        Raises:
            SinkError: No connection, or the broker does not acknowledge.
        """
        try:
            sent = [
                self._connection.publish(
                    topic_of(self._config.topic, one.stream),
                    format_result(one).rstrip(b"\n"),
                    self._config.qos,
                )
                for one in results
            ]
            due = time.monotonic() + ACKNOWLEDGE_SECONDS
            while not all(one.is_published() for one in sent):
                if not self._connection.is_connected or time.monotonic() > due:
                    raise SinkError(f"sink mqtt: no acknowledgement: {self._problem}")
                time.sleep(_POLL_SECONDS)
        except (LinkError, ValueError, RuntimeError) as error:
            msg = f"sink mqtt: {error}: {self._problem}"
            raise SinkError(msg, next_step="check the broker") from error
        return len(results)

    def close(self) -> None:
        """Leave the broker."""
        self._connection.close()

    def on_ready(self, client: paho.Client) -> None:
        """Nothing to subscribe to."""
        del client
        self._problem = ""

    def on_message(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        """Nothing is subscribed to."""

    def on_lost(self, reason: str) -> None:
        """Keep the reason for the next message."""
        self._problem = reason


def topic_of(pattern: str, stream: str) -> str:
    """Return the topic of a stream: what a topic cannot hold becomes ``_``.

    >>> topic_of("edge/{stream}/class", "plant/a+b")
    'edge/plant/a_b/class'
    """
    clean = "".join(
        "_" if one in "+#" or not one.isprintable() else one for one in stream
    )
    return pattern.replace(STREAM, clean or "_")
