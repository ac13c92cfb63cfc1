# SPDX-License-Identifier: Apache-2.0
"""What a source can be told, one class a ``type``.

docs/reference/sources-and-sinks.md describes each key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_agent.config.units import Duration, Size, bounded


@dataclass(frozen=True, slots=True)
class FileSourceConfig:
    """Recordings in a file; ``rate`` is frames a second, 0 as fast as possible."""

    path: Path
    type: Literal["file"] = "file"
    sample_rate_hz: float = bounded(50.0, 0.001, 10_000_000)
    rate: float = bounded(10.0, 0, 100_000)
    order: Literal["interleaved", "sequential"] = "interleaved"
    repeat: bool = True
    follow: bool = True


@dataclass(frozen=True, slots=True)
class StdinSourceConfig:
    """Lines of the standard input.

    Attributes:
        format: ``json``, a message a line, or ``csv`` under a header.
        fields: Names of the values of a row in JSON objects, in the model's order.
        gap: A longer silence begins a stream anew; None: none does.
        max_line: The longest line.
    """

    type: Literal["stdin"] = "stdin"
    format: Literal["json", "csv"] = "json"
    fields: tuple[str, ...] = ()
    gap: Duration | None = None
    max_line: Size = bounded(Size(1024**2), 64, 2**28)


@dataclass(frozen=True, slots=True)
class MqttSourceConfig:
    """Topics of a broker, one stream a topic.

    Attributes:
        topics: Filters, with wildcards.
        host: The broker.
        port: Its port; None: 8883 with TLS, else 1883.
        format: ``json``, or ``float32``, raw and little-endian.
        fields: Names of the values of a row in JSON objects, in the model's order.
        gap: A longer silence begins a stream anew; None: none does.
        client_id: Empty: made by the broker.
        username: For the broker.
        password_file: A file that holds the password; only with TLS or on loopback.
        tls: Whether to speak TLS.
        ca_file: Who may sign the broker's certificate; None: who the system trusts.
        qos: At which messages are asked for.
        queue: How many messages wait at most; then the oldest is dropped.
        max_message: The longest message.
    """

    topics: tuple[str, ...]
    type: Literal["mqtt"] = "mqtt"
    host: str = "127.0.0.1"
    port: int | None = bounded(None, 1, 65535)
    format: Literal["json", "float32"] = "json"
    fields: tuple[str, ...] = ()
    gap: Duration | None = None
    client_id: str = ""
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    qos: int = bounded(1, 0, 1)
    queue: int = bounded(1000, 1, 1_000_000)
    max_message: Size = bounded(Size(1024**2), 64, 2**28)


@dataclass(frozen=True, slots=True)
class SensorsSourceConfig:
    """What the machine says of itself; a row is its ``fields``, in order."""

    fields: tuple[str, ...]
    type: Literal["sensors"] = "sensors"
    interval: Duration = bounded(Duration(1_000_000), 0.01, 86_400)
    disk: Path = Path("/")


@dataclass(frozen=True, slots=True)
class CameraSourceConfig:
    """Pictures of a camera or a video file.

    Attributes:
        device: ``/dev/video0``, a file, or an address that OpenCV opens.
        colour: ``rgb``, or ``grey``, one channel.
        rate: Pictures a second at most; 0: all there are.
        width: What to ask of a camera; None: what it gives.
        height: Ditto.
        repeat: Whether a file begins anew at its end.
    """

    device: str
    type: Literal["camera"] = "camera"
    colour: Literal["rgb", "grey"] = "rgb"
    rate: float = bounded(0.0, 0, 1000)
    width: int | None = bounded(None, 1, 16384)
    height: int | None = bounded(None, 1, 16384)
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class PluginSourceConfig:
    """A source that another distribution brings, under its name."""

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)


SourceConfig = (
    FileSourceConfig
    | StdinSourceConfig
    | MqttSourceConfig
    | SensorsSourceConfig
    | CameraSourceConfig
    | PluginSourceConfig
)
