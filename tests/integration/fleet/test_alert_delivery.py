# SPDX-License-Identifier: Apache-2.0
"""Alerts to real receivers: an HTTP server, a mail server, a broker."""

import hashlib
import hmac
import json
import queue
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_contract.topics import alert_topic
from fleet.alerts.channels.channel import Channel, DeliveryError
from fleet.alerts.channels.mail import MailChannel
from fleet.alerts.channels.topic import TopicChannel
from fleet.alerts.channels.webhook import SIGNATURE_HEADER, WebhookChannel
from fleet.alerts.delivery import DeliveryWorker
from fleet.alerts.engine import AlertEngine
from fleet.broker.session import MqttSession
from fleet.config import AlertsConfig, EmailConfig, WebhookConfig
from fleet.store.alert_tables import deliveries
from fleet.store.engine import reading
from tests.support.fleet_world import FleetWorld
from tests.support.http_server import serve
from tests.support.mail_server import MailServer
from tests.support.mqtt_broker import Mosquitto

SECRET = b"0123456789abcdef0123456789abcdef"
SECOND = 1_000_000


class Receiver:
    """An HTTP receiver that keeps requests and answers what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.app = Starlette(routes=[Route("/hook", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.requests.append((dict(request.headers), await request.body()))
        return Response(status_code=self.status)

    def ids(self) -> list[str]:
        """Return the ids of all events that came, in order."""
        return [
            event["id"]
            for _, body in self.requests
            for event in json.loads(body)["events"]
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FleetWorld]:
    world = FleetWorld(tmp_path)
    yield world
    world.engine.dispose()


def raise_alerts(world: FleetWorld, channel: Channel, count: int = 2) -> None:
    """Let ``count`` devices fall silent."""
    engine = AlertEngine(world.engine, world.clock, AlertsConfig(), [channel.name])
    names = [f"watch-{number}" for number in range(1, count + 1)]
    world.ingest(*(world.device(one).window(1) for one in names))
    world.clock.now_us += 901 * SECOND
    engine.tick()


def make_worker(world: FleetWorld, channel: Channel) -> DeliveryWorker:
    return DeliveryWorker(world.engine, world.clock, channel, random.Random(1))  # noqa: S311 - jitter


def read_queue(world: FleetWorld) -> list[dict[str, Any]]:
    with reading(world.engine) as connection:
        rows = connection.execute(select(deliveries).order_by(deliveries.c.id))
        return [dict(one) for one in rows.mappings()]


def make_webhook(world: FleetWorld, url: str, timeout: float = 5.0) -> WebhookChannel:
    secret = world.folder / "hook.key"
    secret.write_bytes(SECRET + b"\n")
    config = WebhookConfig(f"{url}/hook", str(secret), timeout)
    return WebhookChannel("ops", config, world.clock)


def test_a_webhook_gets_signed_events_once(world: FleetWorld) -> None:
    receiver = Receiver()
    with serve(receiver.app) as url:
        channel = make_webhook(world, url)
        raise_alerts(world, channel)
        worker = make_worker(world, channel)
        worker.run()
        worker.run()

    ((headers, body),) = receiver.requests
    told = dict(
        part.split("=") for part in headers[SIGNATURE_HEADER.lower()].split(",")
    )
    signed = told["t"].encode() + b"." + body
    assert told["v1"] == hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
    assert int(told["t"]) == world.clock.now_us // SECOND
    document = json.loads(body)
    assert document["version"] == 1
    assert [one["event"] for one in document["events"]] == ["opened", "opened"]
    alert = document["events"][0]["alert"]
    assert (alert["rule"], alert["device"]) == ("device_silent", "watch-1")
    assert [one["outcome"] for one in read_queue(world)] == ["sent", "sent"]


def test_a_refusing_webhook_is_tried_again_later_and_given_up(
    world: FleetWorld,
) -> None:
    receiver = Receiver()
    receiver.status = 503
    with serve(receiver.app) as url:
        channel = make_webhook(world, url)
        raise_alerts(world, channel, 1)
        worker = make_worker(world, channel)
        for number in range(6):
            worker.run()
            row = read_queue(world)[0]
            assert 0 <= row["next_us"] - world.clock.now_us < 5 * SECOND * 2**number
            world.clock.now_us = row["next_us"]
        row = read_queue(world)[0]
        assert row["error"].endswith("expected a 2xx answer, found: status 503")
        assert row["attempts"] == 6

        receiver.status = 200
        worker.run()
        assert read_queue(world)[0]["outcome"] == "sent"

        receiver.status = 500
        raise_alerts(world, channel, 2)
        world.clock.now_us += 4 * 86_400 * SECOND
        worker.run()
        assert read_queue(world)[1]["outcome"] == "expired"


def test_a_kill_after_sending_sends_the_same_id_again(world: FleetWorld) -> None:
    receiver = Receiver()
    with serve(receiver.app) as url:
        channel = make_webhook(world, url)
        raise_alerts(world, channel, 1)

        class Killed(BaseException):
            pass

        def send_and_die(events: Any) -> None:
            WebhookChannel.send(channel, events)
            raise Killed

        channel.send = send_and_die  # type: ignore[method-assign]
        with pytest.raises(Killed):
            make_worker(world, channel).run()
        del channel.send
        make_worker(world, channel).run()

    assert receiver.ids() == ["alert-1-opened", "alert-1-opened"]
    assert read_queue(world)[0]["outcome"] == "sent"


@pytest.mark.parametrize("trickle", [b"", b"HTTP/1.1 204"])
def test_a_hanging_webhook_ends_at_its_deadline(
    world: FleetWorld, trickle: bytes
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def hang() -> None:
        connection, _ = listener.accept()
        with connection:
            # A byte now and then: no single read ever times out.
            for number in range(200):
                if over.wait(0.05):
                    return
                if trickle:
                    some = trickle[number : number + 1] or b" "
                    connection.send(some)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        channel = make_webhook(world, url, timeout=0.5)
        with pytest.raises(DeliveryError, match=r"no answer within 0\.5 s"):
            channel.send([{"id": "x"}])
    finally:
        over.set()
        thread.join()
        listener.close()


def test_a_webhook_without_a_secret_says_how_to_make_one(world: FleetWorld) -> None:
    channel = make_webhook(world, "http://127.0.0.1:9")
    (world.folder / "hook.key").write_bytes(b"short\n")

    with pytest.raises(DeliveryError) as caught:
        channel.send([{"id": "x"}])

    assert "expected at least 16 bytes, found 5" in caught.value.message
    assert "openssl rand" in caught.value.next_step


def make_mail(world: FleetWorld, server: MailServer) -> EmailConfig:
    password = world.folder / "mail.password"
    password.write_text("password\n")
    return EmailConfig(
        host="127.0.0.1",
        port=server.port,
        ca_file=str(server.ca),
        username="user",
        password_file=str(password),
        sender="fleet@example.org",
        recipients=("a@example.org", "b@example.org"),
        timeout_seconds=5.0,
    )


def test_mail_goes_over_tls_many_alerts_in_one(world: FleetWorld) -> None:
    with MailServer(world.folder) as server:
        channel = MailChannel(make_mail(world, server))
        raise_alerts(world, channel)
        make_worker(world, channel).run()

    (mail,) = server.mails
    assert mail["To"] == "a@example.org, b@example.org"
    assert mail["Subject"].strip() == (
        "2 alerts, first [default] opened: watch-1: nothing heard for 15 minutes"
    )
    text = mail.get_content()
    assert "OPENED watch-2: nothing heard for 15 minutes" in text
    assert "edge-fleet alert show 2" in text
    assert [one["outcome"] for one in read_queue(world)] == ["sent", "sent"]


def test_mail_is_not_given_to_a_server_that_is_not_trusted(world: FleetWorld) -> None:
    with MailServer(world.folder) as server:
        config = make_mail(world, server)
        event = {
            "id": "x",
            "event": "opened",
            "alert": {
                "fleet": "f",
                "title": "t\r\nBcc: x@example.org",
                "level": "notice",
            }
            | {"rule": "r", "next_step": "s", "id": 1},
        }
        with pytest.raises(DeliveryError, match="certificate verify failed"):
            MailChannel(replace(config, ca_file="")).send([event])
        wrong = world.folder / "wrong"
        wrong.write_text("other")
        with pytest.raises(DeliveryError, match="535"):
            MailChannel(replace(config, password_file=str(wrong))).send([event])
        server.answer = "451 later"
        with pytest.raises(DeliveryError, match="451"):
            MailChannel(config).send([event])
        server.answer = "250 OK"
        MailChannel(config).send([event])

    (mail,) = server.mails
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[f] opened: t  Bcc: x@example.org"


def test_a_mail_server_that_trickles_ends_at_the_deadline() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def hang() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.send(b"220 slow\r\n")
            while not over.wait(0.1):
                try:
                    connection.send(b"2")
                except OSError:
                    return

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        config = EmailConfig(
            host="127.0.0.1",
            port=listener.getsockname()[1],
            security="none",
            sender="a@example.org",
            recipients=("b@example.org",),
            timeout_seconds=0.6,
        )
        alert = {"fleet": "f", "title": "t", "level": "notice", "rule": "r", "id": 1}
        event = {"id": "x", "event": "closed", "alert": alert}
        with pytest.raises(DeliveryError, match="not taken"):
            MailChannel(config).send([event])
    finally:
        over.set()
        thread.join()
        listener.close()


def test_the_topic_carries_one_event_a_message_and_waits_for_the_broker(
    world: FleetWorld,
) -> None:
    broker = Mosquitto(world.folder)
    broker.start()
    session = MqttSession("127.0.0.1", broker.port, "edge-fleet-test")
    heard: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
    ready = threading.Event()
    ear = Client(
        CallbackAPIVersion.VERSION2, "ear", protocol=MQTTProtocolVersion.MQTTv5
    )
    ear.on_connect = lambda client, *_: client.subscribe(alert_topic("default"), qos=1)
    ear.on_subscribe = lambda *_: ready.set()
    ear.on_message = lambda _c, _u, m: heard.put((m.topic, bytes(m.payload), m.retain))
    channel = TopicChannel(session, ["default"])
    raise_alerts(world, channel)
    worker = make_worker(world, channel)
    try:
        worker.run()  # not connected yet: tried again later
        assert read_queue(world)[0]["attempts"] == 1
        world.clock.now_us += 60 * SECOND
        ear.connect("127.0.0.1", broker.port)
        ear.loop_start()
        assert ready.wait(20)
        session.connect(lambda *_: None, lambda: None)
        worker.run()
        worker.run()
        events = [heard.get(timeout=20) for _ in range(2)]
    finally:
        ear.disconnect()
        ear.loop_stop()
        session.close()
        broker.stop()

    assert {topic for topic, _, _ in events} == {"edge/1/default/alert"}
    assert not any(retain for _, _, retain in events)
    found = {json.loads(data)["id"] for _, data, _ in events}
    assert found == {"alert-1-opened", "alert-2-opened"}
    assert [one["outcome"] for one in read_queue(world)] == ["sent", "sent"]
