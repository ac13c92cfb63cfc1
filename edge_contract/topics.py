# SPDX-License-Identifier: Apache-2.0
"""The topic grammar: the only place that knows where the slashes are.

Owns docs/spec/topics.md: ``edge/1/{fleet}/{device}/up|down/{kind}``, ``…/state`` and
``edge/1/{fleet}/announce|verdict|alert``. It does not know what a message holds.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from edge_contract.errors import TopicError

ROOT: Final = "edge/1"
UP_KINDS: Final = ("birth", "window", "event", "update", "reply")
DOWN_KINDS: Final = ("ack", "want", "cmd")
Direction = Literal["up", "down", "state", "announce", "verdict", "alert"]
_FLEET_DIRECTIONS: Final[tuple[Direction, ...]] = ("announce", "verdict", "alert")

_FLEET_ID = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_DEVICE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
_FLEET_LEVELS = 4
_STATE_LEVELS = 5
_KIND_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Topic:
    """A parsed topic."""

    fleet: str
    device: str | None
    direction: Direction
    kind: str | None


def check_fleet_id(fleet: str) -> str:
    """Return ``fleet`` if it is a fleet id, else raise ``TopicError``."""
    if not _FLEET_ID.fullmatch(fleet):
        msg = f"fleet id: expected 1 to 32 of a-z 0-9 -, found {fleet[:80]!r}"
        raise TopicError(msg)
    return fleet


def check_device_id(device: str) -> str:
    """Return ``device`` if it is a device id, else raise ``TopicError``."""
    if not _DEVICE_ID.fullmatch(device):
        msg = (
            "device id: expected 1 to 64 of a-z 0-9 . _ -, first a letter or digit, "
            f"found {device[:80]!r}"
        )
        raise TopicError(msg)
    return device


def up_topic(fleet: str, device: str, kind: str) -> str:
    """Return the topic on which a device sends messages of ``kind``."""
    return _kind_topic(fleet, device, "up", kind, UP_KINDS)


def down_topic(fleet: str, device: str, kind: str) -> str:
    """Return the topic on which the server sends messages of ``kind``."""
    return _kind_topic(fleet, device, "down", kind, DOWN_KINDS)


def state_topic(fleet: str, device: str) -> str:
    """Return the topic of a device's retained presence and of its will."""
    return f"{ROOT}/{check_fleet_id(fleet)}/{check_device_id(device)}/state"


def announce_topic(fleet: str) -> str:
    """Return the topic of the hint that update metadata is new."""
    return f"{ROOT}/{check_fleet_id(fleet)}/announce"


def verdict_topic(fleet: str) -> str:
    """Return the topic that tells people's systems of drift verdicts."""
    return f"{ROOT}/{check_fleet_id(fleet)}/verdict"


def alert_topic(fleet: str) -> str:
    """Return the topic that tells people's systems of alerts."""
    return f"{ROOT}/{check_fleet_id(fleet)}/alert"


def up_filter() -> str:
    """Return the filter for all up messages of all devices."""
    return f"{ROOT}/+/+/up/+"


def state_filter() -> str:
    """Return the filter for the state of all devices."""
    return f"{ROOT}/+/+/state"


def down_filter(fleet: str, device: str) -> str:
    """Return the filter for all that the server sends to one device."""
    return f"{ROOT}/{check_fleet_id(fleet)}/{check_device_id(device)}/down/+"


def parse_topic(topic: str) -> Topic:
    """Parse a topic.

    Raises:
        TopicError: The topic is not one of ours.

    >>> parse_topic("edge/1/default/watch-3/up/window").kind
    'window'
    """
    levels = topic.split("/")
    if levels[:2] != ROOT.split("/") or not (
        _FLEET_LEVELS <= len(levels) <= _KIND_LEVELS
    ):
        msg = f"topic: expected {ROOT}/…, found {topic[:120]!r}"
        raise TopicError(msg)
    fleet = check_fleet_id(levels[2])
    if len(levels) == _FLEET_LEVELS:
        for direction in _FLEET_DIRECTIONS:
            if levels[3] == direction:
                return Topic(fleet, None, direction, None)
    device = check_device_id(levels[3])
    if len(levels) == _STATE_LEVELS and levels[4] == "state":
        return Topic(fleet, device, "state", None)
    if len(levels) == _KIND_LEVELS:
        if levels[4] == "up" and levels[5] in UP_KINDS:
            return Topic(fleet, device, "up", levels[5])
        if levels[4] == "down" and levels[5] in DOWN_KINDS:
            return Topic(fleet, device, "down", levels[5])
    msg = f"topic: no such direction or kind: {topic[:120]!r}"
    raise TopicError(msg)


def _kind_topic(
    fleet: str, device: str, direction: str, kind: str, kinds: tuple[str, ...]
) -> str:
    if kind not in kinds:
        msg = f"topic: expected one of {', '.join(kinds)}, found {kind!r}"
        raise TopicError(msg)
    prefix = f"{ROOT}/{check_fleet_id(fleet)}/{check_device_id(device)}"
    return f"{prefix}/{direction}/{kind}"
