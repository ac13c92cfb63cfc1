# SPDX-License-Identifier: Apache-2.0
"""Addresses of this machine alone.

Owns the rule for what is loopback. It opens nothing.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final, Self

_MAX_PORT: Final = 65535


def is_loopback(host: str) -> bool:
    """Return whether ``host`` names this machine and nothing else.

    >>> is_loopback("127.0.0.1"), is_loopback("10.0.0.1")
    (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        if not is_loopback(name):
            msg = (
                f"expected a loopback address, found {text!r}: the service has no "
                "log-in, so that only this machine may reach it"
            )
            raise ValueError(msg)
        return cls("127.0.0.1" if name == "localhost" else name, int(port))
