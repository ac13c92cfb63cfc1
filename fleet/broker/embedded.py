# SPDX-License-Identifier: Apache-2.0
"""The embedded MQTT 5 broker: rumqttd from the ``iotcore`` wheel, in a child process.

Owns its configuration file, its start, and starting it again when it dies. The child
ends when its parent does, however that happens.

It listens on loopback only, without passwords: rumqttd reads its users once at start
and has no access rules, and messages are authenticated end to end anyway. Beyond
loopback an external broker with TLS is asked for.
"""

import logging
import time
from pathlib import Path

from iotcore import Broker

from fleet.errors import BrokerError, ListenError

_LOG = logging.getLogger(__name__)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_START_SECONDS = 10.0
_PORT_WAIT_SECONDS = 5.0
_PORT_POLL_SECONDS = 0.1

_TEMPLATE = """\
id = 0

[router]
id = 0
max_connections = 4096
max_outgoing_packet_count = 1000
max_segment_size = 16777216
max_segment_count = 10

[v5.1]
name = "devices"
listen = "{host}:{port}"
next_connection_delay_ms = 0

[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 131072
max_inflight_count = 1000
"""


class EmbeddedBroker:
    """A broker in a child process.

    Args:
        folder: Where its configuration file is written.
        host: Loopback address to listen on.
        port: Port to listen on; not 0.

    Raises:
        ListenError: The address is not loopback.
    """

    def __init__(self, folder: Path, host: str, port: int) -> None:
        if host not in _LOOPBACK:
            message = f"broker.host: expected a loopback address, found {host}"
            step = "set broker.mode to external and run a broker with TLS"
            raise ListenError(message, next_step=step)
        self._path = folder / "rumqttd.toml"
        self._address = (host, port)
        self._broker: Broker | None = None

    def start(self) -> None:
        """Start the child and wait until it accepts connections.

        Raises:
            BrokerError: It does not start, or its port is in use.
        """
        host, port = self._address
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(_TEMPLATE.format(host=host, port=port), encoding="utf-8")
        deadline = time.monotonic() + _PORT_WAIT_SECONDS
        while self._broker is None or not self._broker.is_running:
            try:
                self._broker = Broker(config_path=str(self._path))
                self._broker.start(timeout=_START_SECONDS)
            except OSError as error:
                # The child of a server that was just killed may hold the port still.
                if time.monotonic() > deadline:
                    message = f"broker: port {port}: {error}"
                    step = "end what listens there, or set broker.port"
                    raise BrokerError(message, next_step=step) from error
                time.sleep(_PORT_POLL_SECONDS)
            except RuntimeError as error:
                message = f"broker: expected it to start on port {port}: {error}"
                raise BrokerError(
                    message, next_step="see its messages above"
                ) from error

    def keep_running(self) -> None:
        """Start the child again if it died; meant to be called every second."""
        if self._broker is not None and not self._broker.is_running:
            _LOG.error("broker died; starting it again")
            self.start()

    def stop(self) -> None:
        """End the child."""
        if self._broker is not None:
            self._broker.stop()
            self._broker = None
