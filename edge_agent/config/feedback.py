# SPDX-License-Identifier: Apache-2.0
"""What the feedback of a slot can be told; one class a ``type`` of label input."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.config.units import Duration, bounded


@dataclass(frozen=True, slots=True)
class FileLabelsConfig:
    """JSON lines that another program appends to a file."""

    path: Path
    type: Literal["file"] = "file"


@dataclass(frozen=True, slots=True)
class MqttLabelsConfig:
    """Topics of a broker; the other keys are those of an ``mqtt`` source."""

    topics: tuple[str, ...]
    type: Literal["mqtt"] = "mqtt"
    host: str = "127.0.0.1"
    port: int | None = bounded(None, 1, 65535)
    client_id: str = ""
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    ca_file: Path | None = None
    qos: int = bounded(1, 0, 1)


LabelsConfig = FileLabelsConfig | MqttLabelsConfig


@dataclass(frozen=True, slots=True)
class FeedbackConfig:
    """Labels for earlier answers.

    Attributes:
        remember: How many answers a label may come for.
        within: For how long.
        labels: Where labels come from, besides the local service.
    """

    remember: int = bounded(4096, 1, 1_000_000)
    within: Duration = bounded(Duration(3_600_000_000), 1, 2_592_000)
    labels: tuple[LabelsConfig, ...] = ()
