# SPDX-License-Identifier: Apache-2.0
"""The real ``edge-fleet`` as processes, and a real MQTT client as its device."""

import json
import queue
import subprocess
import sys
from pathlib import Path
from typing import Any, Self, TypeVar

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_contract.enrolment import Enrolment
from edge_contract.envelope import unseal
from edge_contract.messages import Ack, DownMessage, decode_down
from edge_contract.topics import down_filter, parse_topic
from fleet.ingest.marks import Marks
from tests.support.fleet_device import FakeDevice, Sealed

WAIT_SECONDS = 20.0
_Kind = TypeVar("_Kind", bound=DownMessage)
FLEET = (sys.executable, "-m", "fleet.cli")


def run_fleet(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end."""
    noun, *rest = arguments
    command = [*FLEET, noun, *rest, "--state", str(state)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )


def ask_fleet(*arguments: str, state: Path) -> Any:
    """Run one verb with ``--json``, which must succeed; return its document."""
    done = run_fleet(*arguments, "--json", state=state)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class ServerProcess:
    """``edge-fleet serve`` on a state folder."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*FLEET, "serve", "--state", str(state), "--json", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # printed when requests are answered
        assert line, "the server ended before it was ready"
        self.addresses: dict[str, str] = json.loads(line)

    def __enter__(self) -> Self:
        """Give the running server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> int:
        """Ask it to stop; return its exit code."""
        self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        code = self.process.wait(WAIT_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class MqttDevice:
    """A device on a real connection; remembers what the server sent it."""

    def __init__(self, enrolment: Enrolment) -> None:
        self.enrolment = enrolment
        self.sealing = FakeDevice(enrolment.device, enrolment.keys)
        self._down: queue.Queue[DownMessage] = queue.Queue()
        self._subscribed: queue.Queue[None] = queue.Queue()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=enrolment.device,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._client.on_connect = lambda client, *_: client.subscribe(
            down_filter(enrolment.fleet, enrolment.device), qos=1
        )
        self._client.on_subscribe = lambda *_: self._subscribed.put(None)
        self._client.on_message = self._received

    def connect(self) -> None:
        """Connect and wait for the subscription."""
        self._client.connect(self.enrolment.broker_host, self.enrolment.broker_port)
        self._client.loop_start()
        self._subscribed.get(timeout=WAIT_SECONDS)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, *messages: Sealed) -> None:
        """Publish messages and wait for the broker's confirmations."""
        for info in [self._client.publish(t, data, qos=1) for t, data in messages]:
            info.wait_for_publish(WAIT_SECONDS)

    def wait_for(self, kind: type[_Kind]) -> _Kind:
        """Return the next message of ``kind``; others are passed over."""
        while True:
            message = self._down.get(timeout=WAIT_SECONDS)
            if isinstance(message, kind):
                return message

    def wait_until_marked(self, seq: int) -> None:
        """Wait for acks until ``seq`` and all before it are committed."""
        while True:
            for boot_id, mark, bitmap in self.wait_for(Ack).marks:
                same = boot_id == self.sealing.boot_id
                if same and Marks.from_bitmap(mark, bitmap).mark >= seq:
                    return

    def _received(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        topic, keys = message.topic, self.enrolment.keys
        payload = unseal(bytes(message.payload), key=keys.down, aad=topic)
        kind = parse_topic(topic).kind
        assert kind is not None
        self._down.put(decode_down(kind, payload))
