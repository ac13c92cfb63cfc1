# SPDX-License-Identifier: Apache-2.0
"""systemd's notify protocol, sd_notify(3): ready, alive, stopping, a line of status.

Owns the datagrams. Where no service manager listens, nothing is sent. What is said and
when the watchdog is fed is ``supervision``'s matter.
"""

import logging
import os
import socket
from typing import Final

_LOG = logging.getLogger(__name__)
_ABSTRACT: Final = "@"


class Notifier:
    """Talks to the service manager.

    Args:
        address: ``NOTIFY_SOCKET``; None or empty: nobody listens.
        watchdog_usec: ``WATCHDOG_USEC``, or None.
        watchdog_pid: ``WATCHDOG_PID``: whom the watchdog is for; None: us.
    """

    def __init__(
        self,
        address: str | None,
        watchdog_usec: str | None = None,
        watchdog_pid: str | None = None,
    ) -> None:
        self._socket: socket.socket | None = None
        self._address = ""
        is_ours = watchdog_pid in {None, "", str(os.getpid())}
        text = watchdog_usec or ""
        is_number = text.isascii() and text.isdigit()
        self.watchdog_us = int(text) if is_ours and is_number else 0
        if address:
            # An abstract socket is written with @ and begins with a zero byte.
            is_abstract = address.startswith(_ABSTRACT)
            self._address = "\0" + address[1:] if is_abstract else address
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            )
            self._socket.settimeout(0)

    def ready(self) -> None:
        """Say that the agent serves, or waits for a model."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Say in one line how the agent fares."""
        self._send("STATUS=" + text.replace("\n", " "))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def reloading(self, monotonic_us: int) -> None:
        """Say that the configuration is being read again; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self) -> None:
        """Say that the agent stops because it was told to, or starts anew."""
        self._send("STOPPING=1")

    def extend(self, us: int) -> None:
        """Ask for more time to start or to stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={us}")

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            _LOG.debug("the service manager did not hear %s: %s", text, error)
