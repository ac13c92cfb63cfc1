# SPDX-License-Identifier: Apache-2.0
"""The mqtt source and sink against real brokers: order, bounds, outages, TLS."""

import ipaddress
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_agent import broker
from edge_agent.clock import SystemClock
from edge_agent.config.sinks import MqttSinkConfig
from edge_agent.config.sources import MqttSourceConfig
from edge_agent.config.units import Size
from edge_agent.errors import LinkError, SinkError, SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sinks.mqtt import MqttOutlet
from edge_agent.sinks.queued import QueuedSink
from edge_agent.sources.mqtt import MqttSource
from tests.support.mqtt_broker import Mosquitto, Rumqttd, TestBroker
from tests.support.sinks import await_true, make_result

GRID = Grid(1, 1, 2)


@pytest.fixture(
    params=[Rumqttd, pytest.param(Mosquitto, marks=pytest.mark.broker)],
    ids=["rumqttd", "mosquitto"],
)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestBroker]:
    found: TestBroker = request.param(tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "LONGEST_PAUSE_SECONDS", 0.2)


class Neighbour:
    """Another client of the broker."""

    def __init__(self, port: int, *filters: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.on_message = self._hear
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_connect = lambda *_: ready.set() if not filters else None
        self._client.connect("127.0.0.1", port)
        for one in filters:
            self._client.subscribe(one, 1)
        self._client.loop_start()
        assert ready.wait(10)

    def _hear(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload)))

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has it."""
        info = self._client.publish(topic, payload, 1, retain=retain)
        info.wait_for_publish(10)

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def opened() -> Iterator[Callable[[Any], Any]]:
    made: list[Any] = []

    def keep(one: Any) -> Any:
        made.append(one)
        return one

    yield keep
    for one in reversed(made):
        one.close()


def make_source(port: int, *topics: str, **more: Any) -> MqttSource:
    return MqttSource(MqttSourceConfig(topics, port=port, **more), SystemClock())


def await_connection(source: MqttSource, number: int = 1) -> None:
    await_true(lambda: source.account.get("connections") == number)


def await_subscription(source: MqttSource, neighbour: Neighbour, topic: str) -> None:
    """Say something until the source hears it."""

    def hears() -> bool:
        neighbour.say(topic, b"[0, 0]")
        return source.read(GRID) is not None

    await_true(hears)
    while source.read(GRID) is not None:
        pass


def take(source: MqttSource, count: int) -> list[Chunk]:
    found: list[Chunk] = []

    def is_enough() -> bool:
        chunk = source.read(GRID)
        found.extend([] if chunk is None else [chunk])
        return len(found) >= count

    await_true(is_enough)
    return found


def test_topics_are_streams_and_nonsense_is_passed_over(
    running: TestBroker, opened: Callable[[Any], Any]
) -> None:
    neighbour = opened(Neighbour(running.port))
    neighbour.say("plant/old/accel", b"[9, 9]", retain=True)
    config = {"fields": ("ax", "ay"), "max_message": Size(256)}
    source = opened(make_source(running.port, "plant/+/accel", "lab/#", **config))
    await_subscription(source, neighbour, "lab/test")
    before = int(source.account.get("refused", 0))

    neighbour.say("plant/a/accel", b"[1, 2]")
    for bad in (b"", b"text", b"[1]", b"\xff", b"[1e400, 2]", b"[" + b" " * 300):
        neighbour.say("plant/a/accel", bad)
    neighbour.say("plant/b/speed", b"[5, 5]")  # nobody asked for it
    neighbour.say("plant/b/accel", b'{"ay": 4, "ax": 3, "id": "n"}')
    chunks = take(source, 2)

    assert [(one.stream, one.rows[0].tolist(), one.id) for one in chunks] == [
        ("plant/a/accel", [1, 2], ""),
        ("plant/b/accel", [3, 4], "n"),
    ]
    assert int(source.account["refused"]) - before == 6
    assert source.account["retained"] == 1
    assert source.features == 2


def test_raw_floats_may_be_several_rows(
    running: TestBroker, opened: Callable[[Any], Any]
) -> None:
    neighbour = opened(Neighbour(running.port))
    source = opened(make_source(running.port, "raw", "t", format="float32"))
    await_connection(source)
    payload = np.arange(6, dtype="<f4").tobytes()
    await_true(lambda: neighbour.say("raw", payload) or source.read(GRID) is not None)
    chunks = take(source, 2)
    assert {one.rows[0].tolist()[0] for one in chunks} <= {0.0, 2.0, 4.0}
    assert all(one.rows.shape == (1, 2) for one in chunks)


def test_a_queue_that_overflows_drops_the_oldest_and_counts(
    running: TestBroker, opened: Callable[[Any], Any]
) -> None:
    neighbour = opened(Neighbour(running.port))
    source = opened(make_source(running.port, "a", queue=5))
    await_subscription(source, neighbour, "a")
    before = int(source.account.get("dropped", 0))
    for number in range(20):
        neighbour.say("a", b"[%d, 0]" % number)
    await_true(lambda: int(source.account.get("dropped", 0)) - before == 15)

    assert [one.rows[0, 0] for one in take(source, 5)] == [15, 16, 17, 18, 19]
    assert source.read(GRID) is None


@pytest.mark.slow
def test_a_broker_may_go_away_and_come_back(
    running: TestBroker, opened: Callable[[Any], Any]
) -> None:
    source = opened(make_source(running.port, "a"))
    await_connection(source)
    running.stop()
    await_true(lambda: source.account["connected"] == 0)
    await_true(lambda: int(source.account.get("lost", 0)) >= 1)
    assert source.read(GRID) is None
    running.start()
    await_connection(source, 2)
    neighbour = opened(Neighbour(running.port))
    await_subscription(source, neighbour, "a")


def test_results_are_published_under_their_stream(
    running: TestBroker, opened: Callable[[Any], Any]
) -> None:
    neighbour = opened(Neighbour(running.port, "edge/#"))
    config = MqttSinkConfig("edge/{stream}/class", port=running.port)
    sink = QueuedSink("mqtt", MqttOutlet(config), 100, batch=4)
    for number in range(10):
        sink.write(make_result(str(number), "plant/a+b"))
    await_true(lambda: sink.account["taken"] == 10)
    await_true(lambda: len(neighbour.heard) == 10)
    sink.close()

    assert {topic for topic, _ in neighbour.heard} == {"edge/plant/a_b/class"}
    lines = [json.loads(payload) for _, payload in neighbour.heard]
    assert [one["id"] for one in lines] == [str(number) for number in range(10)]
    assert lines[0]["label"] == "run"


@pytest.mark.slow
def test_results_wait_for_a_broker_that_is_away(
    running: TestBroker, opened: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.sinks.queued.LONGEST_PAUSE_SECONDS", 0.1)
    running.stop()
    config = MqttSinkConfig("edge/x", port=running.port)
    sink = QueuedSink("mqtt", MqttOutlet(config), 100, batch=4)
    for number in range(10):
        sink.write(make_result(str(number)))
    await_true(lambda: int(sink.account.get("failures", 0)) >= 2)
    running.start()
    neighbour = opened(Neighbour(running.port, "edge/x"))
    await_true(lambda: sink.account["taken"] == 10)
    sink.close()
    assert sink.account["dropped"] == 0
    assert len(neighbour.heard) <= 10  # those before it subscribed, it did not hear


def make_certificate(path: Path) -> None:
    """Write a key and a certificate of 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plant")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.with_suffix(".key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.mark.broker
def test_tls_and_a_password_from_a_file(tmp_path: Path) -> None:
    certificate = tmp_path / "plant.pem"
    make_certificate(certificate)
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(passwords), "ann", "s3cret"], check=True
    )
    secure = Mosquitto(
        tmp_path,
        allows_anonymous=False,
        more=f"user root\npassword_file {passwords}\ncertfile {certificate}\n"
        f"keyfile {certificate.with_suffix('.key')}\n",
    )
    secure.start()
    (tmp_path / "right").write_text("s3cret\n")
    (tmp_path / "wrong").write_text("other\n")
    access = {"tls": True, "ca_file": certificate, "username": "ann"}
    right = make_source(secure.port, "a", password_file=tmp_path / "right", **access)
    wrong = make_source(secure.port, "a", password_file=tmp_path / "wrong", **access)
    access["ca_file"] = None
    untrusted = make_source(secure.port, "a", **access)
    await_connection(right)
    await_true(lambda: "Not authorized" in str(wrong.account.get("problem")))
    await_true(lambda: "CERTIFICATE_VERIFY_FAILED" in str(untrusted.account))
    for one in (right, wrong, untrusted):
        assert "s3cret" not in str(one.account)
        one.close()
    secure.stop()


def test_what_is_unsafe_or_no_topic_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("abc")
    with pytest.raises(LinkError, match="expected tls, because a password is given"):
        make_source(1883, "a", host="plant.example", password_file=secret)
    with pytest.raises(LinkError, match="expected a file with a secret"):
        make_source(1883, "a", password_file=tmp_path / "none")
    with pytest.raises(LinkError, match="ca_file"):
        make_source(1883, "a", tls=True, ca_file=secret)
    for bad in ((), ("",), ("a/#/b",), ("a+",), ("a#",), ("a\0",)):
        with pytest.raises(SourceError, match="expected topics"):
            make_source(1883, *bad)
    for topic in ("", "a/+", "a/#"):
        with pytest.raises(SinkError, match="without wildcards"):
            MqttOutlet(MqttSinkConfig(topic))
