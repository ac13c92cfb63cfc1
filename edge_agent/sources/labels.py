# SPDX-License-Identifier: Apache-2.0
"""Inputs of labels: lines appended to a file, and topics of a broker.

Owns what waits until it is asked for, at most 1,000 messages. What is malformed is
counted; ``labelling`` says what that is.
"""

import os
import threading
from collections import deque
from pathlib import Path
from typing import Final, Protocol

import paho.mqtt.client as paho

from edge_agent.broker import BrokerConnection
from edge_agent.config.feedback import (
    FileLabelsConfig,
    LabelsConfig,
    MqttLabelsConfig,
)
from edge_agent.errors import FeedbackError
from edge_agent.labelling import Label, parse_labels
from edge_agent.tally import Tally

MAX_WAITING: Final = 1000
MAX_BYTES: Final = 65_536


class LabelInput(Protocol):
    """Where labels come from. One thread asks."""

    @property
    def account(self) -> dict[str, int | str]:
        """What came, and what was wrong with it."""

    def read(self) -> list[Label]:
        """Return the labels that came since; returns at once, and raises nothing."""

    def close(self) -> None:
        """Let go of what the input holds."""


def open_labels(config: LabelsConfig) -> LabelInput:
    """Open an input of labels.

    Raises:
        LinkError: A broker cannot be spoken to in this way.
    """
    if isinstance(config, FileLabelsConfig):
        return LabelFile(config.path)
    return LabelTopics(config)


class LabelFile:
    """Lines that are appended to a file from now on.

    What the file holds already is for answers that nobody remembers. A file that is
    replaced, or cut short, is read from its beginning.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tally = Tally(f"labels {path}")
        self._partial = b""
        self._file, self._offset = 0, 0
        found = self._look()
        if found is not None:
            self._file, self._offset = found.st_ino, found.st_size

    @property
    def account(self) -> dict[str, int | str]:
        """What came, and what was wrong with it."""
        return dict(self._tally.account)

    def read(self) -> list[Label]:
        """Return the labels of the lines that were appended since."""
        found = self._look()
        if found is None:
            return []
        if found.st_ino != self._file or found.st_size < self._offset:
            self._file, self._offset, self._partial = found.st_ino, 0, b""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read(MAX_BYTES)
        except OSError as error:
            self._tally.complain("unreadable", error)
            return []
        self._offset += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_BYTES:
            self._partial = b""
            self._tally.complain("refused", f"a line above {MAX_BYTES} bytes")
        return _parse_all(lines, self._tally)

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _look(self) -> os.stat_result | None:
        try:
            return self._path.stat()
        except OSError:
            return None


class LabelTopics:
    """Messages of a broker.

    Args:
        config: What it was told.

    Raises:
        LinkError: A password would travel in plain text, or a file cannot be read.
    """

    def __init__(self, config: MqttLabelsConfig) -> None:
        self._config = config
        self._tally = Tally(f"labels mqtt {config.host}")
        self._lock = threading.Lock()
        self._messages: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._connection = BrokerConnection(config, self)
        self._connection.start()

    @property
    def account(self) -> dict[str, int | str]:
        """What came, and what was wrong with it."""
        state = {"connected": int(self._connection.is_connected)}
        return {**state, **self._tally.account}

    def read(self) -> list[Label]:
        """Return the labels of the messages that came since."""
        with self._lock:
            messages = list(self._messages)
            self._messages.clear()
        return _parse_all(messages, self._tally)

    def close(self) -> None:
        """Leave the broker."""
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
        if len(payload) > MAX_BYTES:
            self._tally.complain("refused", f"{topic}: above {MAX_BYTES} bytes")
            return
        with self._lock:
            if len(self._messages) == MAX_WAITING:
                self._tally.complain("dropped", "labels come faster than they count")
            self._messages.append(payload)

    def on_lost(self, reason: str) -> None:
        """Say so; the connection goes on trying."""
        self._tally.complain("lost", reason)


def _parse_all(messages: list[bytes], tally: Tally) -> list[Label]:
    found: list[Label] = []
    for message in messages:
        if not message.strip():
            continue
        try:
            labels = parse_labels(message)
        except FeedbackError as error:
            tally.complain("refused", error)
            continue
        tally.count("came", len(labels))
        found += labels
    return found
