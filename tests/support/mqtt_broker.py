# SPDX-License-Identifier: Apache-2.0
"""Real MQTT 5 brokers on a free loopback port: Mosquitto, and rumqttd from a wheel."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Protocol

from iotcore import Broker

_RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 64
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 4
[v5.1]
name = "test"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 131072
max_inflight_count = 200
"""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestBroker(Protocol):
    """A broker that can go away and come back on its port."""

    __test__: bool = False
    port: int

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Mosquitto:
    """The Mosquitto that is installed."""

    def __init__(
        self, folder: Path, *, allows_anonymous: bool = True, more: str = ""
    ) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"allow_anonymous {str(allows_anonymous).lower()}\n"
            f"persistence false\nlog_type none\n{more}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_open(self.port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Rumqttd:
    """The embedded broker of the fleet server."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "rumqttd.toml"
        self._config.write_text(_RUMQTTD.format(port=self.port))
        self._broker: Broker | None = None

    def start(self) -> None:
        self._broker = Broker(config_path=str(self._config))
        self._broker.start(timeout=10.0)

    def stop(self) -> None:
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


def wait_until_open(port: int) -> None:
    """Return as soon as something accepts connections on ``port``."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.02)
        else:
            return
