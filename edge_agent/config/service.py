# SPDX-License-Identifier: Apache-2.0
"""What the local service can be told: where it listens, and what it takes."""

from dataclasses import dataclass
from pathlib import Path

from edge_agent.config.units import Size, bounded


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The local service; an address that is left out is not listened on.

    Attributes:
        http: ``127.0.0.1:8080``; loopback only.
        unix: A socket file, mode 0660.
        grpc: ``127.0.0.1:8081``; needs the extra ``agent-grpc``.
        max_request: Bytes of one request.
        max_json: Bytes of one request whose tensors are JSON.
    """

    http: str | None = None
    unix: Path | None = None
    grpc: str | None = None
    max_request: Size = bounded(Size(16 * 1024**2), 1024, 2**30)
    max_json: Size = bounded(Size(1024**2), 1024, 2**30)
