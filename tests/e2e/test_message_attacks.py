# SPDX-License-Identifier: Apache-2.0
"""Attacks on messages: whoever owns the broker, the wire or another device's key.

One real agent speaks with a real server through Mosquitto and through a wire that
somebody else holds. Whatever he does, nothing is believed that the other end did not
say, each refusal is counted where a person can read it, and at the end the books are
exact. Attacks on updates are in tests/conformance/test_update_attacks.py.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge_contract.enrolment import Enrolment
from edge_contract.envelope import seal
from edge_contract.messages import Ack, Announce, Command, Want, encode_message
from edge_contract.topics import announce_topic, down_topic, state_topic, up_topic
from tests.support.agent_home import AgentHome, await_value
from tests.support.bundles import ModelRecipe
from tests.support.fleet_device import FakeDevice, Sealed
from tests.support.fleet_process import ask_fleet
from tests.support.fleet_site import Site
from tests.support.mqtt_broker import Mosquitto
from tests.support.wire import MqttWire, Publish, Wire

pytestmark = [pytest.mark.slow, pytest.mark.broker]

NAME = "right"
NEVER_S = 4_000_000_000
FAR = 10**6  # a seq or mark far above all real ones
FLOOD_SECONDS = 12.0
MOST_LOOKS = 4  # at 0, 2, 6 and 14 seconds at the earliest


@dataclass
class Thief:
    """Holds the wire; ``rule`` says what becomes of a message."""

    seen: list[Publish] = field(default_factory=list)
    rule: Callable[[Publish], Sequence[Publish]] = lambda packet: [packet]

    def __call__(self, packet: Publish) -> Sequence[Publish]:
        self.seen.append(packet)
        return self.rule(packet)

    def last(self, topic: str) -> Publish:
        """Return the last message on a topic."""
        found: list[Publish] = await_value(
            lambda: [one for one in list(self.seen) if one.topic == topic], bool
        )
        return found[-1]


class HttpWire(Wire):
    """Counts how often somebody looks for news."""

    looks = 0

    def _pieces(self, source: Any) -> Iterator[bytes]:
        for data in super()._pieces(source):
            self.looks += data.count(b"GET /tuf/metadata/timestamp.json")
            yield data


@dataclass
class Stage:
    """The site, who listens in, and the keys of another device of the fleet."""

    site: Site
    thief: Thief
    mqtt: MqttWire
    http: HttpWire
    other: Enrolment
    broker_port: int

    @property
    def home(self) -> AgentHome:
        """The agent under attack."""
        return self.site.homes[NAME]

    def show(self, device: str = NAME) -> Any:
        """Return what an operator sees of a device."""
        return self.site.ask(f"/devices/{device}")

    def refused(self) -> dict[str, int]:
        """Return what the agent says that it refused."""
        found: dict[str, int] = self.home.read_status()["refused"]
        return found

    def publish(self, *messages: Sealed) -> None:
        """Publish as anybody may who reaches the broker."""
        client = Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.connect("127.0.0.1", self.broker_port)
        client.loop_start()
        for topic, payload in messages:
            client.publish(topic, payload, qos=1).wait_for_publish(20)
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with contextlib.ExitStack() as stack:
        broker = Mosquitto(folder)
        stack.callback(broker.stop)
        broker.start()
        external = f"broker: {{mode: external, host: 127.0.0.1, port: {broker.port}}}\n"
        site = Site(folder, stack, {NAME: ()}, rate=50, more=external)
        thief, home = Thief(), site.homes[NAME]
        mqtt = stack.enter_context(MqttWire(broker.port, thief))
        api = int(home.enrolment.api_url.rpartition(":")[2])
        http = stack.enter_context(HttpWire(api))
        home.reroute(broker_port=mqtt.port, api_url=f"http://127.0.0.1:{http.port}")
        home.start()
        site.await_serving(site.publish(ModelRecipe(seed=1)))
        added = ask_fleet(
            "device", "add", "left", "-o", str(folder / "left"), state=site.state
        )
        file = Path(added["devices"]["left"])
        other = Enrolment.from_json(file.read_bytes())
        yield Stage(site, thief, mqtt, http, other, broker.port)
        thief.rule = lambda packet: [packet]
        home.await_status("connected", value=True)
        site.check_books(NAME)


@pytest.fixture(autouse=True)
def _honest_again(stage: Stage) -> Iterator[None]:
    yield
    stage.thief.rule = lambda packet: [packet]


WINDOW = up_topic("default", NAME, "window")


def keep_first(stage: Stage, act: Callable[[Publish], Sequence[Publish]]) -> Publish:
    """Let the thief act on the next window; return it as it was."""
    kept: list[Publish] = []

    def rule(packet: Publish) -> Sequence[Publish]:
        if packet.topic == WINDOW and packet.to_broker and not kept:
            kept.append(packet)
            return act(packet)
        return [packet]

    stage.thief.rule = rule
    found: list[Publish] = await_value(lambda: kept, bool)
    return found[0]


def test_a_dropped_window_comes_again(stage: Stage) -> None:
    before = stage.show()["totals"]["windows"]
    keep_first(stage, lambda _: [])
    stage.mqtt.reset()
    await_value(lambda: stage.show()["totals"]["windows"], lambda n: n > before + 1)


def test_an_altered_window_is_refused_and_comes_again(stage: Stage) -> None:
    before = stage.show()["refusals"].get("mac", 0)

    def alter(packet: Publish) -> Sequence[Publish]:
        turned = packet.payload[:-1] + bytes([packet.payload[-1] ^ 1])
        return [replace(packet, payload=turned)]

    keep_first(stage, alter)
    await_value(lambda: stage.show()["refusals"].get("mac", 0), lambda n: n > before)
    stage.mqtt.reset()


def test_a_repeated_window_counts_once(stage: Stage) -> None:
    before = stage.show()["totals"]["duplicates"]
    keep_first(stage, lambda packet: [packet, packet.extra(), packet.extra()])
    await_value(lambda: stage.show()["totals"]["duplicates"], lambda n: n >= before + 2)


def test_windows_in_another_order_count_the_same(stage: Stage) -> None:
    late: list[Publish] = []

    def rule(packet: Publish) -> Sequence[Publish]:
        if packet.topic != WINDOW or not packet.to_broker:
            return [packet]
        late.append(packet)
        # The first is held back, then comes with the third, after it.
        return {1: [], 3: [packet, late[0].extra()]}.get(len(late), [packet])

    stage.thief.rule = rule
    await_value(lambda: len(late), lambda n: n >= 3)


def test_a_goodbye_that_was_recorded_silences_nobody(stage: Stage) -> None:
    topic = state_topic("default", NAME)
    stage.home.stop()
    goodbye = stage.thief.last(topic).payload
    stage.home.start()
    stage.home.await_status("connected", value=True)
    seen = stage.show()["last_seen_us"]
    stage.publish((topic, goodbye))
    shown = await_value(stage.show, lambda found: found["last_seen_us"] > seen)
    assert shown["serving"] == stage.home.read_status()["serving"]


def forger(stage: Stage, **changes: Any) -> FakeDevice:
    """Make a device of the attacked one's name with the keys that the thief has."""
    return FakeDevice(NAME, replace(stage.other.keys, **changes))


UP_FORGERIES: dict[str, tuple[str, str, Callable[[Stage], Sealed]]] = {
    "birth": ("mac", NAME, lambda stage: forger(stage).birth(FAR, FAR)),
    "window": ("mac", NAME, lambda stage: forger(stage).window(FAR)),
    "event": ("mac", NAME, lambda stage: forger(stage).event(FAR)),
    "reply": ("mac", NAME, lambda stage: forger(stage).reply(FAR, "c1")),
    "state": (
        "mac",
        NAME,
        lambda stage: forger(stage).state(online=False, time_us=2**50),
    ),
    "moved to another device": (
        "mac",
        "left",
        lambda stage: (
            up_topic("default", "left", "window"),
            stage.thief.last(WINDOW).payload,
        ),
    ),
    "moved to another kind": (
        "mac",
        NAME,
        lambda stage: (
            up_topic("default", NAME, "event"),
            stage.thief.last(WINDOW).payload,
        ),
    ),
    "another epoch": (
        "key-epoch",
        NAME,
        lambda stage: forger(stage, epoch=7).window(FAR),
    ),
    "no envelope": ("envelope", NAME, lambda _: (WINDOW, bytes(100_000))),
    "an unknown device": (
        "unknown-device",
        "",
        lambda stage: replace(forger(stage), device="nobody").window(FAR),
    ),
    "another fleet": (
        "wrong-fleet",
        NAME,
        lambda stage: replace(forger(stage), fleet="other").window(FAR),
    ),
}


@pytest.mark.parametrize("name", UP_FORGERIES)
def test_a_forged_message_to_the_server_is_refused_and_counted(
    stage: Stage, name: str
) -> None:
    reason, device, forge = UP_FORGERIES[name]

    def count() -> int:
        if device:
            return int(stage.show(device)["refusals"].get(reason, 0))
        return int(stage.site.ask("/devices")["refusals"].get(reason, 0))

    before = count()
    stage.publish(forge(stage))
    await_value(count, lambda found: found > before)
    assert stage.show("left")["totals"] == {}


def test_another_that_takes_the_name_is_not_believed(stage: Stage) -> None:
    before = stage.show()["refusals"]["mac"]
    impostor = Client(
        CallbackAPIVersion.VERSION2,
        client_id=NAME,
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    impostor.connect("127.0.0.1", stage.broker_port)
    impostor.loop_start()
    impostor.publish(*forger(stage).birth(FAR, FAR), qos=1).wait_for_publish(20)
    impostor.disconnect()
    impostor.loop_stop()
    await_value(lambda: stage.show()["refusals"]["mac"], lambda n: n > before)
    stage.home.await_status("connected", value=True)


def test_samples_of_another_are_refused_and_counted(stage: Stage) -> None:
    asked = ask_fleet("sample", "request", NAME, state=stage.site.state)
    path = f"/api/v1/devices/{NAME}/samples/{asked['request']}/0"
    sealed = forger(stage).seal_for(path, b"\xa0")
    answer = httpx.put(stage.home.enrolment.api_url + path, content=sealed)
    assert answer.status_code == 403
    assert stage.show()["refusals"]["sample-envelope"] == 1
    unasked = path.replace(asked["request"], "0" * 16)
    url = stage.home.enrolment.api_url + unasked
    assert httpx.put(url, content=sealed).status_code == 404


def seal_down(
    stage: Stage, message: Ack | Want | Command, kind: str, epoch: int = 1
) -> bytes:
    """Seal a down message with the other device's key, as the thief may."""
    topic = down_topic("default", NAME, kind)
    body = encode_message(message)
    return seal(body, key=stage.other.keys.down, epoch=epoch, aad=topic)


WANT, CMD, ACK = (down_topic("default", NAME, one) for one in ("want", "cmd", "ack"))
DOWN_FORGERIES: dict[str, tuple[str, Callable[[Stage], Sealed]]] = {
    "want": (
        "envelope.mac",
        lambda stage: (
            WANT,
            seal_down(stage, Want(FAR, NEVER_S, 9, {}, {"site": "evil"}), "want"),
        ),
    ),
    "command": (
        "envelope.mac",
        lambda stage: (
            CMD,
            seal_down(stage, Command(FAR, NEVER_S, "c", "sample", {}), "cmd"),
        ),
    ),
    "ack": (
        "envelope.mac",
        lambda stage: (
            ACK,
            seal_down(stage, Ack(FAR, NEVER_S, ((bytes(8), FAR, b""),)), "ack"),
        ),
    ),
    "another epoch": (
        "envelope.format",
        lambda stage: (
            WANT,
            seal_down(stage, Want(FAR, NEVER_S, 9, {}, {}), "want", epoch=0),
        ),
    ),
    "a real want, altered": (
        "envelope.mac",
        lambda stage: (WANT, stage.thief.last(WANT).payload[:-1] + b"\0"),
    ),
    "a real want, again": (
        "message.replay",
        lambda stage: (WANT, stage.thief.last(WANT).payload),
    ),
    "a real ack, again": (
        "message.replay",
        lambda stage: (ACK, stage.thief.last(ACK).payload),
    ),
    "a real want as a command": (
        "envelope.mac",
        lambda stage: (CMD, stage.thief.last(WANT).payload),
    ),
    "an announce of nonsense": (
        "message",
        lambda _: (announce_topic("default"), b"\xff" * 50),
    ),
    "another fleet's announce": (
        "topic",
        lambda _: (announce_topic("other"), encode_message(Announce(1, 0))),
    ),
    "another device's topic": (
        "topic",
        lambda stage: (
            down_topic("default", "left", "want"),
            stage.thief.last(WANT).payload,
        ),
    ),
    "a real window, back": (
        "topic",
        lambda stage: (WINDOW, stage.thief.last(WINDOW).payload),
    ),
}


@pytest.mark.parametrize("name", DOWN_FORGERIES)
def test_a_forged_message_to_the_agent_is_refused_and_counted(
    stage: Stage, name: str
) -> None:
    code, forge = DOWN_FORGERIES[name]
    stage.home.await_status("connected", value=True)
    before = stage.refused().get(code, 0)
    serving = stage.home.read_status()["serving"]

    stage.mqtt.inject(*forge(stage))

    await_value(lambda: stage.refused().get(code, 0), lambda found: found > before)
    assert stage.home.read_status()["serving"] == serving


def test_the_server_hears_of_forgeries(stage: Stage) -> None:
    stage.mqtt.inject(*DOWN_FORGERIES["want"][1](stage))
    await_value(
        lambda: [one["name"] for one in stage.show()["events"]],
        lambda names: "link.refused" in names,
    )


def test_a_flood_of_announces_costs_a_few_looks(stage: Stage) -> None:
    hint = announce_topic("default"), encode_message(Announce(FAR, 0))
    produced, looks = stage.home.read_counter(), stage.http.looks
    end = time.monotonic() + FLOOD_SECONDS
    while time.monotonic() < end:
        stage.mqtt.inject(*hint)
        time.sleep(0.01)
    assert stage.http.looks - looks <= MOST_LOOKS
    assert stage.home.read_counter() > produced


def test_attacks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    others = 8  # the tests above that are no table
    count = len(UP_FORGERIES) + len(DOWN_FORGERIES) + others
    with capsys.disabled():
        print(f"\n{count} attacks on messages")  # noqa: T201 - for people
    assert count >= 20
