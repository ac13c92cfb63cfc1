# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import MessageError, TopicError
from edge_contract.messages import (
    Ack,
    Announce,
    Birth,
    Command,
    DownMessage,
    Event,
    Reply,
    State,
    UpdateReport,
    UpMessage,
    Want,
    decode_announce,
    decode_down,
    decode_state,
    decode_up,
    encode_message,
    kind_of,
)
from edge_contract.topics import (
    alert_topic,
    announce_topic,
    check_device_id,
    check_fleet_id,
    down_topic,
    parse_topic,
    state_topic,
    up_topic,
    verdict_topic,
)
from edge_contract.window_report import WindowReport
from tests.support.contract_samples import BOOT_ID

DIGEST = bytes(range(32))
UP: list[UpMessage] = [
    Birth(
        boot_id=BOOT_ID,
        seq=1,
        agent_version="0.1.0",
        hardware={"arch": "aarch64", "cores": 4, "fpu": True, "model": None},
        runtimes={"litert": "2.3.0"},
        serving={"main": DIGEST},
        ref_ids={"main": BOOT_ID},
        generation=3,
        refused=(("samples.consent", "set in the device's own file only"),),
        lowest_seq=1,
        down_floor=9,
        time_us=1_790_000_000_000_000,
        clock_synced=False,
    ),
    Event(BOOT_ID, 2, "sensor.stuck", "warning", 5, "ax", {"share": 51}),
    UpdateReport(BOOT_ID, 3, "main", "committed", DIGEST, DIGEST, 4, 1, 100, 5, "", ""),
    UpdateReport(
        *(BOOT_ID, 4, "main", "rolled_back", DIGEST, b"", 4, 1, 100, 5, "e", ""),
        fields={"compared": 200, "disagreed": 30, "invariant": "disagreement"},
    ),
    Reply(BOOT_ID, 4, "c1", accepted=False, code="agent.consent"),
    WindowReport(
        BOOT_ID,
        5,
        BOOT_ID,
        BOOT_ID,
        10,
        20,
        30,
        clock_synced=True,
        rows=1,
        inferences=1,
        failed=0,
        lost=2,
        covers=(3, 4),
        count_block=b"\x01",
        moment_block=bytes(8),
    ),
]
DOWN: list[DownMessage] = [
    Ack(1, 2, ((BOOT_ID, 7, b"\x05"),)),
    Want(2, 3, 4, {"statistics.window": "5m", "x": None}, {"site": "lyon"}),
    Command(3, 4, "c1", "sample", {"head": "0.3", "labels": True, "only": ["a", 1]}),
]


@pytest.mark.parametrize("message", UP, ids=kind_of)
def test_up_messages_round_trip(message: UpMessage) -> None:
    assert decode_up(kind_of(message), encode_message(message)) == message


@pytest.mark.parametrize("message", DOWN, ids=kind_of)
def test_down_messages_round_trip(message: DownMessage) -> None:
    assert decode_down(kind_of(message), encode_message(message)) == message


def test_state_and_announce_round_trip() -> None:
    state = State(BOOT_ID, online=True, time_us=1, serving={"main": DIGEST}, pending=2)

    assert decode_state(encode_message(state)) == state
    assert decode_announce(encode_message(Announce(7, 30))) == Announce(7, 30)


@pytest.mark.parametrize("message", UP, ids=kind_of)
def test_unknown_keys_are_ignored(message: UpMessage) -> None:
    body = decode_cbor(encode_message(message), max_bytes=10_000)
    body[999] = "from a later version"

    assert decode_up(kind_of(message), encode_cbor(body)) == message


@pytest.mark.parametrize("message", UP, ids=kind_of)
def test_a_missing_identity_is_refused(message: UpMessage) -> None:
    body = decode_cbor(encode_message(message), max_bytes=10_000)
    del body[2]

    with pytest.raises(MessageError):
        decode_up(kind_of(message), encode_cbor(body))


@pytest.mark.parametrize("message", [*UP, *DOWN], ids=kind_of)
@pytest.mark.parametrize("value", [None, -1, 2**63, "x" * 2000, b"", [], {}, [[]], 1])
def test_a_value_of_the_wrong_kind_is_refused_or_read(
    message: UpMessage | DownMessage, value: object
) -> None:
    decode = decode_up if message in UP else decode_down
    body = decode_cbor(encode_message(message), max_bytes=10_000)
    for key in list(body):
        try:
            decoded = decode(kind_of(message), encode_cbor(body | {key: value}))
        except MessageError:
            continue
        assert encode_message(decoded)


def test_what_the_decoder_refuses_is_not_encoded() -> None:
    event = UP[1]
    assert isinstance(event, Event)
    with pytest.raises(MessageError, match="severity"):
        encode_message(dataclasses.replace(event, severity="dreadful"))


@pytest.mark.parametrize("kind", ["", "ack", "nothing"])
def test_unknown_up_kinds_are_refused(kind: str) -> None:
    with pytest.raises(MessageError):
        decode_up(kind, b"\xa0")


def test_topics_round_trip() -> None:
    up = parse_topic(up_topic("default", "watch-3", "window"))
    down = parse_topic(down_topic("default", "watch-3", "cmd"))
    state = parse_topic(state_topic("default", "watch-3"))
    announce = parse_topic(announce_topic("default"))
    verdict = parse_topic(verdict_topic("default"))
    alert = parse_topic(alert_topic("default"))

    assert (up.device, up.direction, up.kind) == ("watch-3", "up", "window")
    assert (down.direction, down.kind) == ("down", "cmd")
    assert state.direction == "state"
    assert (announce.fleet, announce.device) == ("default", None)
    assert (verdict.direction, verdict.device) == ("verdict", None)
    assert (alert.direction, alert.device) == ("alert", None)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "edge/2/f/d/state",
        "edge/1/f",
        "edge/1/f/d",
        "edge/1/F/d/state",
        "edge/1/f/d/up/ack",
        "edge/1/f/d/down/window",
        "edge/1/f/d/up/window/more",
        "edge/1/+/d/state",
        "edge/1/f/#",
        "edge/1/f/d\n/state",
    ],
)
def test_foreign_topics_are_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        parse_topic(topic)


@pytest.mark.parametrize("name", ["", "a" * 65, "A", "a/b", "é", "-a", ".a", "a\n"])
def test_bad_device_ids_are_refused(name: str) -> None:
    with pytest.raises(TopicError):
        check_device_id(name)


@pytest.mark.parametrize("name", ["", "a" * 33, "A", "a.b"])
def test_bad_fleet_ids_are_refused(name: str) -> None:
    with pytest.raises(TopicError):
        check_fleet_id(name)
