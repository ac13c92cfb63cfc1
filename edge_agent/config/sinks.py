# SPDX-License-Identifier: Apache-2.0
"""What a sink can be told, one class a ``type``.

``queue`` is how many results wait at most; then the oldest is dropped, and counted.
docs/reference/sources-and-sinks.md describes each key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_agent.config.units import Duration, Size, bounded

_QUEUE = 10_000


@dataclass(frozen=True, slots=True)
class FileSinkConfig:
    """One JSON line an inference, appended to a file.

    Attributes:
        path: Made if missing; its folder must exist.
        max_size: Then the file becomes ``path.1``, that one ``path.2``; None: it grows.
        keep: How many of these are kept.
    """

    path: Path
    type: Literal["file"] = "file"
    max_size: Size | None = bounded(None, 1024, 2**40)
    keep: int = bounded(3, 1, 100)
    queue: int = bounded(_QUEUE, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class StdoutSinkConfig:
    """One JSON line an inference, on the standard output."""

    type: Literal["stdout"] = "stdout"
    queue: int = bounded(_QUEUE, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class MqttSinkConfig:
    """A JSON message an inference, to a broker.

    Attributes:
        topic: ``{stream}`` in it is replaced by the result's stream.
        qos: 1 waits for the broker to take each message.
    """

    topic: str
    type: Literal["mqtt"] = "mqtt"
    host: str = "127.0.0.1"
    port: int | None = bounded(None, 1, 65535)
    client_id: str = ""
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    qos: int = bounded(1, 0, 1)
    queue: int = bounded(_QUEUE, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class SqliteSinkConfig:
    """A row an inference, in a database that forgets the oldest.

    Attributes:
        path: Made if missing; its folder must exist.
        max_rows: How many results are kept.
        max_size: How large the database may become, about.
    """

    path: Path
    type: Literal["sqlite"] = "sqlite"
    max_rows: int = bounded(1_000_000, 1, 2**40)
    max_size: Size = bounded(Size(256 * 1024**2), 64 * 1024, 2**40)
    queue: int = bounded(_QUEUE, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class WebhookSinkConfig:
    """Batches of results, posted as JSON.

    Attributes:
        url: ``https://…``, or ``http://…``, which takes a secret on loopback only.
        secret_file: A file that holds the value of ``header``.
        header: Which header carries the secret.
        ca_file: Who may sign the server's certificate; None: who the system trusts.
        timeout: How long the server may be silent.
        batch: How many results go at once, at most.
    """

    url: str
    type: Literal["webhook"] = "webhook"
    secret_file: Path | None = None
    header: str = "Authorization"
    ca_file: Path | None = None
    timeout: Duration = bounded(Duration(10_000_000), 0.1, 300)
    batch: int = bounded(100, 1, 10_000)
    queue: int = bounded(_QUEUE, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class PluginSinkConfig:
    """A sink that another distribution brings, under its name."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    queue: int = bounded(_QUEUE, 1, 1_000_000)


SinkConfig = (
    FileSinkConfig
    | StdoutSinkConfig
    | MqttSinkConfig
    | SqliteSinkConfig
    | WebhookSinkConfig
    | PluginSinkConfig
)
