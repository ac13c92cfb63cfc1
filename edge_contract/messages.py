# SPDX-License-Identifier: Apache-2.0
"""The messages: what each kind carries, under which key.

Owns docs/spec/messages.md except the window report, which is in ``window_report``. The
bodies travel inside an ``envelope`` on a topic of ``topics``; this module neither seals
nor sends.
"""

from dataclasses import dataclass
from typing import Final

from edge_contract.errors import MessageError
from edge_contract.window_report import WindowReport
from edge_contract.wire import (
    ARGUMENT,
    BOOLEAN,
    INTEGER,
    SCALAR,
    Scalar,
    at,
    bounded_bytes,
    exact_bytes,
    from_wire,
    mapping,
    record,
    sequence,
    text,
    to_wire,
)

MAX_MESSAGE_BYTES: Final = 32 * 1024
COMMAND_KINDS: Final = (
    "sample",
    "logs",
    "check-update",
    "quarantine",
    "feedback-request",
)
SEVERITIES: Final = ("info", "warning", "error")

_BOOT_ID = exact_bytes(8)
_DIGEST = exact_bytes(32)
_REF_ID = exact_bytes(8)
_NAME = text(64)
_DETAIL = text(512)


@dataclass(frozen=True, slots=True)
class Birth:
    """What a device is and runs; sent at every connect.

    ``serving`` maps a slot to the release digest that serves there, ``ref_ids`` to its
    reference profile. ``refused`` lists configuration keys that the device did not
    take, each with the reason. ``lowest_seq`` is the lowest seq that the outbox still
    holds, or the next one when it is empty.
    """

    boot_id: bytes = at(1, _BOOT_ID)
    seq: int = at(2, INTEGER)
    agent_version: str = at(10, _NAME)
    hardware: dict[str, Scalar] = at(11, mapping(SCALAR))
    runtimes: dict[str, str] = at(12, mapping(_NAME))
    serving: dict[str, bytes] = at(13, mapping(_DIGEST))
    ref_ids: dict[str, bytes] = at(14, mapping(_REF_ID))
    generation: int = at(15, INTEGER)
    refused: tuple[tuple[str, str], ...] = at(16, sequence(record(_NAME, _DETAIL), 64))
    lowest_seq: int = at(17, INTEGER)
    down_floor: int = at(18, INTEGER)
    time_us: int = at(19, INTEGER)
    clock_synced: bool = at(20, BOOLEAN)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that should not wait for the next window."""

    boot_id: bytes = at(1, _BOOT_ID)
    seq: int = at(2, INTEGER)
    name: str = at(10, _NAME)
    severity: str = at(11, text(8, among=SEVERITIES))
    time_us: int = at(12, INTEGER)
    detail: str = at(13, _DETAIL, default="")
    fields: dict[str, Scalar] = at(14, mapping(SCALAR), default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """One state of one update; ``reason`` is an error code or empty.

    ``fields`` are figures of self-test, shadow and trial (UPD-27).
    """

    boot_id: bytes = at(1, _BOOT_ID)
    seq: int = at(2, INTEGER)
    slot: str = at(10, _NAME)
    state: str = at(11, _NAME)
    digest: bytes = at(12, _DIGEST)
    serving: bytes = at(13, bounded_bytes(32))
    desired_version: int = at(14, INTEGER)
    attempt: int = at(15, INTEGER)
    downloaded_bytes: int = at(16, INTEGER)
    time_us: int = at(17, INTEGER)
    reason: str = at(18, _NAME, default="")
    detail: str = at(19, _DETAIL, default="")
    fields: dict[str, Scalar] = at(20, mapping(SCALAR), default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one command."""

    boot_id: bytes = at(1, _BOOT_ID)
    seq: int = at(2, INTEGER)
    command: str = at(10, _NAME)
    accepted: bool = at(11, BOOLEAN)
    code: str = at(12, _NAME, default="")
    detail: str = at(13, _DETAIL, default="")
    fields: dict[str, Scalar] = at(14, mapping(SCALAR), default_factory=dict)


@dataclass(frozen=True, slots=True)
class State:
    """Presence and what serves; retained, and the will with ``online`` false."""

    boot_id: bytes = at(1, _BOOT_ID)
    online: bool = at(10, BOOLEAN)
    time_us: int = at(11, INTEGER)
    serving: dict[str, bytes] = at(12, mapping(_DIGEST))
    pending: int = at(13, INTEGER, default=0)


@dataclass(frozen=True, slots=True)
class Ack:
    """What the server has committed, one mark a boot id.

    A mark is (boot_id, m, bitmap): every seq up to and including m is committed, and
    m + 1 + i is too where bit i of the bitmap (least significant first) is set.
    """

    down_seq: int = at(1, INTEGER)
    expires_s: int = at(2, INTEGER)
    marks: tuple[tuple[bytes, int, bytes], ...] = at(
        10, sequence(record(_BOOT_ID, INTEGER, bounded_bytes(1024)), 16)
    )


@dataclass(frozen=True, slots=True)
class Want:
    """The configuration and tags that the server wants a device to have."""

    down_seq: int = at(1, INTEGER)
    expires_s: int = at(2, INTEGER)
    generation: int = at(10, INTEGER)
    config: dict[str, Scalar] = at(11, mapping(SCALAR))
    tags: dict[str, str] = at(12, mapping(_NAME))


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to do, from a closed list."""

    down_seq: int = at(1, INTEGER)
    expires_s: int = at(2, INTEGER)
    id: str = at(10, _NAME)
    kind: str = at(11, text(32, among=COMMAND_KINDS))
    arguments: dict[str, Scalar | list[Scalar]] = at(
        12, mapping(ARGUMENT), default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class Announce:
    """A hint that update metadata is new. Not authenticated, never believed."""

    version: int = at(1, INTEGER)
    spread_seconds: int = at(2, INTEGER)


UpMessage = Birth | WindowReport | Event | UpdateReport | Reply
DownMessage = Ack | Want | Command
_UP: Final[dict[str, type]] = {
    "birth": Birth,
    "event": Event,
    "update": UpdateReport,
    "reply": Reply,
}
_DOWN: Final[dict[str, type]] = {"ack": Ack, "want": Want, "cmd": Command}
_KIND_OF: Final[dict[type, str]] = {
    **{cls: kind for kind, cls in (_UP | _DOWN).items()},
    WindowReport: "window",
}


def kind_of(message: UpMessage | DownMessage) -> str:
    """Return the topic kind that carries ``message``."""
    return _KIND_OF[type(message)]


def encode_message(message: UpMessage | DownMessage | State | Announce) -> bytes:
    """Encode a message body as canonical CBOR.

    Raises:
        MessageError: A field holds what the decoder would refuse.
    """
    if isinstance(message, WindowReport):
        return message.encode()
    return to_wire(message)


def decode_up(kind: str, data: bytes) -> UpMessage:
    """Decode the body of an up message of ``kind``.

    Raises:
        MessageError: Unknown kind, or a malformed body.
    """
    if kind == "window":
        return WindowReport.decode(data)
    message: UpMessage = from_wire(_known(_UP, kind), data, MAX_MESSAGE_BYTES)
    return message


def decode_down(kind: str, data: bytes) -> DownMessage:
    """Decode the body of a down message of ``kind``.

    Raises:
        MessageError: Unknown kind, or a malformed body.
    """
    message: DownMessage = from_wire(_known(_DOWN, kind), data, MAX_MESSAGE_BYTES)
    return message


def decode_state(data: bytes) -> State:
    """Decode the body of a state message.

    Raises:
        MessageError: A malformed body.
    """
    state: State = from_wire(State, data, MAX_MESSAGE_BYTES)
    return state


def decode_announce(data: bytes) -> Announce:
    """Decode an announce.

    Raises:
        MessageError: A malformed body.
    """
    announce: Announce = from_wire(Announce, data, 64)
    return announce


def _known(kinds: dict[str, type], kind: str) -> type:
    if kind not in kinds:
        msg = f"message: expected one of {', '.join(kinds)}, found {kind!r}"
        raise MessageError(msg)
    return kinds[kind]
