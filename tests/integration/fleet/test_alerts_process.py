# SPDX-License-Identifier: Apache-2.0
"""An alert from a forged message on the broker to a receiver, over a killed server."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge_contract.topics import up_topic
from tests.support.fleet_process import (
    WAIT_SECONDS,
    ServerProcess,
    ask_fleet,
    run_fleet,
)
from tests.support.http_server import serve

pytestmark = pytest.mark.slow
CONFIG = """
alerts:
  tick: 200ms
  webhooks: {{ops: {{url: {url}/hook, secret_file: {secret}, timeout: 2s}}}}
"""


def await_true(what: Any) -> None:
    """Wait until ``what()`` is true."""
    end = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def forge(address: str, count: int) -> None:
    """Publish messages that no key has sealed in the name of a device."""
    host, port = address.split(":")
    client = Client(
        CallbackAPIVersion.VERSION2, "forger", protocol=MQTTProtocolVersion.MQTTv5
    )
    client.connect(host, int(port))
    client.loop_start()
    topic = up_topic("default", "watch-1", "window")
    for number in range(count):
        info = client.publish(topic, bytes([number]) * 40, qos=1)
        info.wait_for_publish(WAIT_SECONDS)
    client.disconnect()
    client.loop_stop()


def test_a_forgery_reaches_the_receiver_whatever_dies(tmp_path: Path) -> None:
    state, secret = tmp_path / "server", tmp_path / "hook.key"
    secret.write_text("0123456789abcdef\n")
    events: list[dict[str, Any]] = []
    answers = [503]

    async def take(request: Request) -> Response:
        body = json.loads(await request.body())
        if answers[0] < 300:
            events.extend(body["events"])
        return Response(status_code=answers[0])

    app = Starlette(routes=[Route("/hook", take, methods=["POST"])])
    assert run_fleet("init", "--json", state=state).returncode == 0
    with serve(app) as url:
        (state / "fleet.yaml").write_text(CONFIG.format(url=url, secret=secret))
        with ServerProcess(state) as server:
            ask_fleet("device", "add", "watch-1", "-o", str(tmp_path), state=state)
            forge(server.addresses["broker"], 6)
            await_true(lambda: ask_fleet("alert", "list", state=state)["alerts"])
            (alert,) = ask_fleet("alert", "list", state=state)["alerts"]

            def tried() -> bool:
                shown = ask_fleet("alert", "show", str(alert["id"]), state=state)
                hook = [one for one in shown["deliveries"] if one["channel"] != "topic"]
                return bool(hook and hook[0]["attempts"])

            await_true(tried)
            server.kill()
        answers[0] = 204
        with ServerProcess(state):
            await_true(lambda: events)
            shown = ask_fleet("alert", "show", str(alert["id"]), state=state)

    assert (alert["rule"], alert["device"]) == ("mac_failures", "watch-1")
    assert {one["id"] for one in events} == {f"alert-{alert['id']}-opened"}
    assert [one["event"] for one in shown["deliveries"]] == ["opened", "opened"]
