# SPDX-License-Identifier: Apache-2.0
"""The door: which messages are authentic, and from whom.

Owns topic -> device -> key -> MAC -> body, in this order, and the named reason of each
refusal. Nothing of a message is parsed before its MAC verifies. It writes nothing.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from edge_contract.envelope import read_epoch, unseal
from edge_contract.errors import (
    EnvelopeFormatError,
    EnvelopeMacError,
    MessageError,
    TopicError,
)
from edge_contract.messages import State, UpMessage, decode_state, decode_up
from edge_contract.topics import parse_topic
from fleet.auth.keyring import KeyRing
from fleet.errors import RefusedError
from fleet.store.tables import devices


@dataclass(frozen=True, slots=True)
class Accepted:
    """An authentic message."""

    device: str
    fleet: str
    kind: str  # an up kind, or "state"
    message: UpMessage | State
    bytes: int  # on the wire, enveloped


class RefusedMessageError(RefusedError):
    """A message that does not pass the door.

    Args:
        reason: A short stable word; refusals are counted under it.
        device: The known device that it claims to come from, else empty.
        detail: What was found.
    """

    code = "fleet.ingest.refused"

    def __init__(self, reason: str, device: str, detail: str) -> None:
        super().__init__(
            f"message refused: {reason}: {detail}",
            next_step="compare the device's enrolment with `edge-fleet device show`",
        )
        self.reason = reason
        self.device = device


def open_message(
    connection: Connection, ring: KeyRing, topic: str, data: bytes
) -> Accepted:
    """Return the authentic message in ``data``.

    Args:
        connection: Where the devices are looked up.
        ring: The keys.
        topic: The full topic on which it came.
        data: The envelope.

    Raises:
        RefusedMessageError: The message is not authentic or malformed.
    """
    try:
        parsed = parse_topic(topic)
    except TopicError as error:
        raise RefusedMessageError("topic", "", str(error)) from error
    kind = parsed.kind if parsed.direction == "up" else parsed.direction
    if parsed.device is None or kind is None or parsed.direction == "down":
        raise RefusedMessageError("topic", "", f"{topic}: not a topic of devices")
    device, fleet = parsed.device, parsed.fleet
    query = select(devices.c.fleet, devices.c.epoch).where(
        devices.c.id == device, devices.c.revoked_us.is_(None)
    )
    row = connection.execute(query).first()
    if row is None:
        raise RefusedMessageError("unknown-device", "", f"no device {device}")
    if row.fleet != fleet:
        raise RefusedMessageError(
            "wrong-fleet", device, f"{device} is in fleet {row.fleet}"
        )
    payload = _open_envelope(ring, device, row.epoch, topic, data)
    try:
        message = decode_state(payload) if kind == "state" else decode_up(kind, payload)
    except MessageError as error:
        raise RefusedMessageError("malformed", device, str(error)) from error
    return Accepted(device, fleet, kind, message, len(data))


def _open_envelope(
    ring: KeyRing, device: str, epoch: int, topic: str, data: bytes
) -> bytes:
    try:
        claimed = read_epoch(data)
        if claimed != epoch:
            detail = f"expected key epoch {epoch}, found {claimed}"
            raise RefusedMessageError("key-epoch", device, detail)
        return unseal(data, key=ring.find(device, epoch).up, aad=topic)
    except EnvelopeFormatError as error:
        raise RefusedMessageError("envelope", device, str(error)) from error
    except EnvelopeMacError as error:
        raise RefusedMessageError("mac", device, str(error)) from error
