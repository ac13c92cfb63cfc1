# SPDX-License-Identifier: Apache-2.0
"""What the local service can be told: where it listens, and what it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.addresses import Address
from edge_agent.config.units import Duration, Size, bounded

_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Where the local service listens; an address that is left out is not.

    Attributes:
        http: Open Inference Protocol over HTTP.
        unix: The same over a Unix socket of mode 0660.
        grpc: The same over gRPC (extra ``agent-grpc``).
        max_request: Bytes of a request's body, as sent and unpacked.
        max_json: Bytes of its JSON; a larger tensor goes by the binary extension.
        connections: At most, at a time; the one that idles longest makes room.
        patience: In which a request must have arrived and its answer been read.
        predictions: Stores of ``edge-agent batch``, by name, to look up from.
    """

    http: Address | None = None
    unix: Path | None = None
    grpc: Address | None = None
    max_request: Size = bounded(Size(16 * _MIB), 1, 2**30)
    max_json: Size = bounded(Size(_MIB), 1, 2**30)
    connections: int = bounded(128, 1, 1024)
    patience: Duration = bounded(Duration(10_000_000), 0.001, 3600)
    predictions: Mapping[str, Path] = field(default_factory=dict)
