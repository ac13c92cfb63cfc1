# SPDX-License-Identifier: Apache-2.0
"""What a source can be told, one class a ``type``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.config.units import bounded


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


SourceConfig = FileSourceConfig
