# SPDX-License-Identifier: Apache-2.0
"""What the local service can be told: where it listens, and what it takes.

Owns the rule that an address is loopback.
"""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from edge_agent.config.units import Duration, Size, bounded

_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A loopback address, written ``127.0.0.1:8080`` or ``[::1]:8080``.

    Port 0 takes any free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

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
        if not _is_loopback(name):
            msg = (
                f"expected a loopback address, found {text!r}: the service has no "
                "log-in, so that only this machine may reach it"
            )
            raise ValueError(msg)
        return cls("127.0.0.1" if name == "localhost" else name, int(port))


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The local service; an address that is left out is not listened on.

    Attributes:
        http: ``127.0.0.1:8080``; loopback only.
        unix: A socket file, mode 0660.
        grpc: ``127.0.0.1:8081``; needs the extra ``agent-grpc``.
        max_request: Bytes of one request, as sent and as unpacked.
        max_json: Bytes of one request whose tensors are JSON.
        connections: At most, at a time; the one that idles longest makes room.
        patience: In which a request must have arrived, and its answer been read.
        predictions: Stores of ``edge-agent batch`` to look up from, by name.
    """

    http: Address | None = None
    unix: Path | None = None
    grpc: Address | None = None
    max_request: Size = bounded(Size(16 * 1024**2), 1024, 2**30)
    max_json: Size = bounded(Size(1024**2), 1024, 2**30)
    connections: int = bounded(128, 1, 1024)
    patience: Duration = bounded(Duration(10_000_000), 0.1, 600)
    predictions: dict[str, Path] = field(default_factory=dict)


def _is_loopback(name: str) -> bool:
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
