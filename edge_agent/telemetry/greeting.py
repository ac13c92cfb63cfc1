# SPDX-License-Identifier: Apache-2.0
"""A greeting: whether the broker is there, takes us, and takes our subscriptions.

Owns one short conversation, for ``edge-agent check``. It must not be held while an
agent runs: two clients of one name drive each other out.
"""

import socket
import time
from typing import Final

from edge_agent.errors import LinkError
from edge_agent.telemetry.mqtt import BrokerAccess, PahoTransport, Will
from edge_contract.enrolment import Enrolment
from edge_contract.topics import announce_topic, down_filter, state_topic

PATIENCE_SECONDS: Final = 10.0
_TURN_SECONDS: Final = 0.2


class _Ear:
    """Hears how the broker answers; a ``Handler``."""

    def __init__(self) -> None:
        self.is_ready = False
        self.lost = ""

    def on_ready(self) -> None:
        self.is_ready = True

    def on_taken(self, ticket: int, *, accepted: bool) -> None:
        del ticket, accepted

    def on_message(self, topic: str, payload: bytes) -> None:
        del topic, payload

    def on_lost(self, reason: str) -> None:
        self.lost = reason


def greet(device: Enrolment, patience_seconds: float = PATIENCE_SECONDS) -> str:
    """Connect as this device, subscribe, and leave again.

    Returns:
        How long it took, in words.

    Raises:
        LinkError: The broker is not there, refuses, or says nothing.
    """
    where = f"broker {device.broker_host}:{device.broker_port}"
    access = BrokerAccess(
        device.broker_host,
        device.broker_port,
        device.device,
        device.keys.broker_password,
        device.certificate_pin,
    )
    ear, started = _Ear(), time.monotonic()
    transport = PahoTransport(access, ear)
    reading, writing = socket.socketpair()
    try:
        # A clean goodbye keeps the will unsaid; it is empty all the same.
        transport.connect(
            Will(state_topic(device.fleet, device.device), b""),
            (down_filter(device.fleet, device.device), announce_topic(device.fleet)),
        )
        while not ear.is_ready and not ear.lost:
            if time.monotonic() - started > patience_seconds:
                ear.lost = f"no answer within {patience_seconds:g} s"
                break
            transport.turn(_TURN_SECONDS, reading)
    except OSError as error:
        ear.lost = str(error)
    finally:
        transport.close()
        reading.close()
        writing.close()
    if ear.lost:
        raise LinkError(
            f"{where}: {ear.lost}",
            next_step="check that it runs and is in reach, and that the device's key "
            "is the server's",
        )
    return f"{where} answered in {(time.monotonic() - started) * 1000:.0f} ms"
