# SPDX-License-Identifier: Apache-2.0
"""What the local service may be told: where it listens, and its bounds.

Owns the rule that an address is loopback. It opens nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from edge_agent.access import is_loopback
from edge_agent.config import Duration, Size

_MAX_PORT: Final = 65535
_MIB: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Address:
    """A loopback address, written ``127.0.0.1:8080`` or ``[::1]:8080``.

    Port 0 takes any free one.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse an address.

        >>> Address.parse("127.0.0.1:8080")
        Address(host='127.0.0.1', port=8080)

        Raises:
            ValueError: Not one, or not of this machine alone.
        """
        host, colon, port = text.rpartition(":") if isinstance(text, str) else ("",) * 3
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not port.isascii() or not port.isdecimal() or len(port) > 5:
            msg = f"expected an address like 127.0.0.1:8080, found {text!r}"
            raise ValueError(msg)
        if int(port) > _MAX_PORT:
            msg = f"expected a port up to {_MAX_PORT}, found {port}"
            raise ValueError(msg)
        if not is_loopback(name):
            msg = (
                f"expected a loopback address, found {text!r}: the service has no "
                "log-in, so that only this machine may reach it"
            )
            raise ValueError(msg)
        return cls("127.0.0.1" if name == "localhost" else name, int(port))


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Where the local service listens, and what it takes.

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
    max_request: Size = field(default=Size(16 * _MIB))
    max_json: Size = field(default=Size(_MIB))
    connections: int = 128
    patience: Duration = field(default=Duration(10_000_000))
    predictions: Mapping[str, Path] = field(default_factory=dict)
