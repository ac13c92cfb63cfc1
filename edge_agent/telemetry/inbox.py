# SPDX-License-Identifier: Apache-2.0
"""Down messages: which of them are believed.

Owns the checks of docs/spec/messages.md, section "Down": the envelope opens under the
down key for exactly this topic, ``expires`` has not passed (where the clock is known to
be right), and ``down_seq`` is above a floor that is on disk before the message counts.
The announce is the one message without an envelope: a hint, never believed. It acts on
nothing.
"""

from dataclasses import dataclass

from edge_agent.clock import Clock
from edge_agent.telemetry.outbox import Outbox
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import read_epoch, unseal
from edge_contract.errors import EnvelopeFormatError, MessageError, TopicError
from edge_contract.messages import (
    Announce,
    DownMessage,
    decode_announce,
    decode_down,
)
from edge_contract.topics import parse_topic

_SECOND_US = 1_000_000


class ExpiredError(MessageError):
    """A down message came after its time."""

    code = "message.expired"


class ReplayError(MessageError):
    """A down message is not newer than one that was accepted before."""

    code = "message.replay"


@dataclass(frozen=True)
class Inbox:
    """Opens what the broker delivers to one device."""

    enrolment: Enrolment
    outbox: Outbox
    clock: Clock

    def open(self, topic: str, payload: bytes) -> DownMessage | Announce:
        """Return an authentic, fresh message.

        Raises:
            EdgeError: It is not ours, altered, expired, replayed or malformed; the code
                says which.
        """
        parsed = parse_topic(topic)
        if parsed.fleet != self.enrolment.fleet:
            raise TopicError(f"topic: expected our own fleet, found {topic!r}")
        if parsed.direction == "announce":
            return decode_announce(payload)
        if parsed.direction != "down" or parsed.device != self.enrolment.device:
            raise TopicError(f"topic: expected one of our down topics, found {topic!r}")
        keys = self.enrolment.keys
        if read_epoch(payload) != keys.epoch:
            raise EnvelopeFormatError(
                f"envelope: expected key epoch {keys.epoch}, "
                f"found {read_epoch(payload)}",
                next_step="enrol the device again if its key was renewed",
            )
        body = unseal(payload, key=keys.down, aad=topic)
        message = decode_down(parsed.kind or "", body)
        self._check_fresh(message)
        return message

    def _check_fresh(self, message: DownMessage) -> None:
        late = self.clock.wall_us() > message.expires_s * _SECOND_US
        if late and self.clock.is_synced():
            raise ExpiredError(f"down message {message.down_seq}: it has expired")
        if not self.outbox.raise_down_floor(message.down_seq):
            raise ReplayError(
                f"down message {message.down_seq}: expected one above "
                f"{self.outbox.down_floor}; it was replayed or overtaken"
            )
