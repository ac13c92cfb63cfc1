# SPDX-License-Identifier: Apache-2.0
"""The ``mqtt`` source: topics of a broker, one stream a topic.

Owns what waits between the broker's thread and the inference thread: so many messages,
then the oldest is dropped and counted. A retained message is of another time, and is
passed over. It says nothing to the broker but what it subscribes to.
"""

import threading
from collections import deque
from dataclasses import replace
from typing import Final

import paho.mqtt.client as paho

from edge_agent.broker import BrokerConnection
from edge_agent.clock import Clock
from edge_agent.config.sources import MqttSourceConfig
from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources.intake import Intake
from edge_agent.sources.reading import Reading, parse_float32, parse_json
from edge_agent.tally import Tally

POLL_SECONDS: Final = 0.25
MAX_TOPIC_BYTES: Final = 65535
_AT_A_TIME: Final = 64  # unusable messages before the caller may look around


class MqttSource:
    """Subscribes to a broker; connects in a thread of its own.

    Args:
        config: What it was told.
        clock: When messages come.

    Raises:
        SourceError: No topics, or filters that are none.
        LinkError: A password would travel in plain text, or a file cannot be read.
    """

    def __init__(self, config: MqttSourceConfig, clock: Clock) -> None:
        if not config.topics or not all(map(_is_filter, config.topics)):
            msg = f"source mqtt: expected topics to subscribe to, found {config.topics}"
            raise SourceError(msg, next_step="list filters like plant/+/accel")
        self._config = config
        self._clock = clock
        self._tally = Tally(f"source mqtt {config.host}")
        gap_us = None if config.gap is None else config.gap.us
        self._intake = Intake(self._tally, gap_us)
        self._messages: deque[tuple[str, bytes, int]] = deque()
        self._chunks: deque[Chunk] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._connection = BrokerConnection(config, self)
        self._connection.start()

    @property
    def features(self) -> int | None:
        """Values of a row; None before the first message that could be used."""
        return self._intake.features

    @property
    def is_exhausted(self) -> bool:
        """Never: the broker may come back."""
        return False

    @property
    def account(self) -> dict[str, int | str]:
        """What was taken, refused, dropped; whether the broker is there."""
        state = {"connected": int(self._connection.is_connected)}
        return {**state, "queue": len(self._messages), **self._tally.account}

    def read(self, grid: Grid) -> Chunk | None:
        """Return the next rows; see ``Source.read``. It raises nothing."""
        for _ in range(_AT_A_TIME):
            if self._chunks:
                return self._chunks.popleft()
            message = self._next()
            if message is None:
                return None
            topic, payload, came_us = message
            try:
                reading = self._parse(topic, payload)
                self._chunks.extend(self._intake.take(reading, came_us, grid))
            except SourceError as error:
                self._tally.complain("refused", f"{topic}: {error}")
        return None

    def close(self) -> None:
        """Leave the broker, and wake up a waiting ``read``."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._connection.close()

    def on_ready(self, client: paho.Client) -> None:
        """Subscribe; called at every connection."""
        client.subscribe([(one, self._config.qos) for one in self._config.topics])
        self._tally.count("connections")

    def on_message(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        """Keep a message until it is read; the oldest makes room."""
        if is_retained:
            self._tally.count("retained")
            return
        if len(payload) > self._config.max_message.bytes:
            problem = f"{topic}: {len(payload)} bytes are more than max_message"
            self._tally.complain("refused", problem)
            return
        with self._changed:
            if len(self._messages) >= self._config.queue:
                self._messages.popleft()
                self._tally.complain("dropped", "messages come faster than inferences")
            self._messages.append((topic, payload, self._clock.wall_us()))
            self._changed.notify_all()

    def on_lost(self, reason: str) -> None:
        """Say so; the connection goes on trying."""
        self._tally.complain("lost", reason)

    def _next(self) -> tuple[str, bytes, int] | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._messages or self._is_closed, POLL_SECONDS
            )
            return self._messages.popleft() if self._messages else None

    def _parse(self, topic: str, payload: bytes) -> Reading:
        if self._config.format == "float32":
            return parse_float32(payload, topic)
        return replace(parse_json(payload, self._config.fields, topic), stream=topic)


def _is_filter(text: str) -> bool:
    """Return whether a text is a topic filter (MQTT 5, section 4.7.1)."""
    levels = text.split("/")
    hashes = [place for place, one in enumerate(levels) if "#" in one]
    return (
        0 < len(text.encode()) <= MAX_TOPIC_BYTES
        and "\0" not in text
        and all(one == "+" or "+" not in one for one in levels)
        and hashes in ([], [len(levels) - 1])
        and (not hashes or levels[-1] == "#")
    )
