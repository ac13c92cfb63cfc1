# SPDX-License-Identifier: Apache-2.0
"""What a sink can be told, one class a ``type``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class FileSinkConfig:
    """One JSON line an inference, appended to a file."""

    path: Path
    type: Literal["file"] = "file"


SinkConfig = FileSinkConfig
