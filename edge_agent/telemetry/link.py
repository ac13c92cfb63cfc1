# SPDX-License-Identifier: Apache-2.0
"""The link: a thread that keeps the device and its server in touch.

Owns the composition of outbox, publishing rules and transport: a birth at every
connection, the retained state every five minutes and as the will, rows out, acks in,
and down messages handed to the daemon. It decides nothing that the server asks for.
"""

import contextlib
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random, SystemRandom
from typing import Final

from edge_agent.clock import Clock
from edge_agent.errors import AgentError, LinkError, OutboxError
from edge_agent.telemetry.inbox import Inbox
from edge_agent.telemetry.mqtt import (
    BrokerAccess,
    Handler,
    PahoTransport,
    Transport,
    Will,
)
from edge_agent.telemetry.outbox import Outbox, Row
from edge_agent.telemetry.publisher import (
    LANES,
    URGENT_LANE,
    Publisher,
    reconnect_delay_seconds,
)
from edge_contract.enrolment import Enrolment
from edge_contract.envelope import seal
from edge_contract.errors import EdgeError
from edge_contract.messages import (
    Ack,
    Announce,
    Birth,
    Command,
    DownMessage,
    Reply,
    State,
    Want,
    encode_message,
)
from edge_contract.topics import announce_topic, down_filter, state_topic, up_topic
from edge_contract.wire import Scalar

HEARTBEAT_US: Final = 300 * 1_000_000
DRAIN_US: Final = 5 * 1_000_000
HANDSHAKE_US: Final = 20 * 1_000_000
_MAX_WAIT_SECONDS = 15.0
_DRAIN_WAIT_SECONDS = 0.2
_LOG = logging.getLogger(__name__)

TransportFactory = Callable[[BrokerAccess, Handler], Transport]


@dataclass(frozen=True)
class LinkHandlers:
    """What the daemon does with down messages.

    They are called in the link's thread and must return soon. A command is handed over
    once while it runs, and never again after ``Link.reply``; a restart of the agent in
    between hands it over again, so commands must bear repetition.
    """

    on_want: Callable[[Want], None]
    on_command: Callable[[Command], None]
    on_announce: Callable[[Announce], None]


@dataclass(frozen=True)
class LinkIdentity:
    """What the daemon tells of the device.

    ``birth`` builds a birth from (boot_id, seq); the link fills in ``lowest_seq`` and
    ``down_floor``. ``serving`` maps a slot to the release digest that serves there.
    """

    birth: Callable[[bytes, int], Birth]
    serving: Callable[[], Mapping[str, bytes]]


class Link:
    """The device's end of the conversation.

    Args:
        enrolment: Who we are and where the broker is.
        outbox: What to send.
        clock: The time.
        identity: What we say of ourselves.
        handlers: What the daemon does with down messages.
        transport: Makes the connection; another one in tests.
    """

    def __init__(  # noqa: PLR0913 - the composition point of telemetry
        self,
        enrolment: Enrolment,
        outbox: Outbox,
        clock: Clock,
        identity: LinkIdentity,
        handlers: LinkHandlers,
        *,
        transport: TransportFactory = PahoTransport,
        random: Random | None = None,
    ) -> None:
        self._enrolment = enrolment
        self._keys = enrolment.keys
        self._outbox = outbox
        self._clock = clock
        self._identity = identity
        self._handlers = handlers
        self._new_transport = transport
        self._random = random or SystemRandom()
        self._inbox = Inbox(enrolment, outbox, clock)
        self._publisher = Publisher(self._random)
        self._tickets: dict[int, int] = {}
        self._transport: Transport | None = None
        self._ready = False
        self._lost = False
        self._owes_birth = False
        self._failures = 0
        self._heartbeat_due_us = 0
        self._running: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._stop_by_us: int | None = None
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0)
        self._wake_write.settimeout(0)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted us."""
        return self._ready

    @property
    def refused(self) -> Mapping[str, int]:
        """How many down messages were refused, by error code."""
        return dict(self._refused)

    def start(self) -> None:
        """Start the thread."""
        self._outbox.listen(self._wake)
        self._thread.start()

    def stop(self) -> None:
        """Send what waits and hear its acks, five seconds at most; say goodbye; end."""
        self._stop_by_us = self._clock.monotonic_us() + DRAIN_US
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self._outbox.listen(lambda: None)
        self._wake_read.close()
        self._wake_write.close()

    def publish_state(self) -> None:
        """Send the state soon: what serves has changed."""
        self._heartbeat_due_us = 0
        self._wake()

    def reply(
        self,
        command_id: str,
        *,
        accepted: bool,
        code: str = "",
        detail: str = "",
        fields: Mapping[str, Scalar] | None = None,
    ) -> None:
        """Answer a command, once and for all.

        Raises:
            OutboxError: The disk refused.
        """
        self._outbox.reply(
            command_id,
            lambda boot_id, seq: Reply(
                boot_id, seq, command_id, accepted, code, detail, dict(fields or {})
            ),
        )
        self._running.discard(command_id)

    def on_ready(self) -> None:
        """Greet the server: birth, state, and all that is held."""
        self._failures = 0
        self._publisher.restart()
        self._tickets.clear()
        self._owes_birth = True
        self._heartbeat_due_us = 0
        self._ready = True
        _LOG.info("connected to the broker; %d messages held", self._outbox.pending)

    def on_taken(self, ticket: int, *, accepted: bool) -> None:
        """Free a place in flight."""
        seq = self._tickets.pop(ticket, None)
        if seq is not None:
            self._publisher.taken(seq)
        if not accepted:
            self._refused["broker"] += 1
            _LOG.warning("the broker refused message %s; it is sent again later", seq)

    def on_message(self, topic: str, payload: bytes) -> None:
        """Open a down message and act on it."""
        try:
            message = self._inbox.open(topic, payload)
            self._dispatch(message)
        except EdgeError as error:
            self._refused[error.code] += 1
            _LOG.warning("a message on %s was refused: %s", topic, error)

    def on_lost(self, reason: str) -> None:
        """Note that the connection is over."""
        self._ready = False
        self._lost = True
        _LOG.info("no connection to the broker: %s", reason)

    def _run(self) -> None:
        while self._stop_by_us is None:
            try:
                self._converse()
            except (AgentError, OSError) as error:
                _LOG.warning("link: %s", error)
            except Exception:  # noqa: BLE001 - the supervisor of this thread
                # A supervisor: a defect in a handler must not silence the device.
                _LOG.exception("link: unexpected error; connecting again")
            self._drop()
            self._failures += 1
            if self._stop_by_us is None:
                self._pause(reconnect_delay_seconds(self._failures, self._random))

    def _converse(self) -> None:
        """Hold one connection until it is lost or we stop."""
        keys, device = self._keys, self._enrolment
        access = BrokerAccess(
            device.broker_host,
            device.broker_port,
            device.device,
            keys.broker_password,
            device.certificate_pin,
        )
        topic = state_topic(device.fleet, device.device)
        self._lost = False
        self._transport = transport = self._new_transport(access, self)
        transport.connect(
            Will(topic, self._sealed_state(topic, online=False)),
            (down_filter(device.fleet, device.device), announce_topic(device.fleet)),
        )
        ready_by_us = self._clock.monotonic_us() + HANDSHAKE_US
        while not self._lost and not self._is_done():
            # Before looking for rows: one that comes later wakes up ``turn``.
            self._drain_wake()
            if self._ready:
                self._publish(transport)
            elif self._clock.monotonic_us() > ready_by_us:
                raise LinkError("the broker accepted the connection and said nothing")
            transport.turn(self._wait_seconds(), self._wake_read)
        if self._ready:
            self._say_goodbye(transport, topic)

    def _publish(self, transport: Transport) -> None:
        now_us = self._clock.monotonic_us()
        if self._publisher.is_stalled(now_us):
            raise LinkError("the broker owes an answer for a minute; connecting again")
        if self._owes_birth:
            self._greet()
        if now_us >= self._heartbeat_due_us:
            self._heartbeat_due_us = now_us + HEARTBEAT_US
            topic = state_topic(self._enrolment.fleet, self._enrolment.device)
            payload = self._sealed_state(topic, online=True)
            transport.publish(topic, payload, retain=True)
        due = self._publisher.due(now_us)
        rows = self._outbox.rows(due) if due else []
        for lane in LANES:
            room = self._publisher.room - len(rows)
            if room > 0:
                above = self._publisher.cursor(lane)
                rows += self._outbox.next_rows(lane, above, room)
        self._send(transport, rows, now_us)

    def _greet(self) -> None:
        """Put a birth first in line; a full outbox drains first, and is asked again."""
        try:
            self._outbox.replace_unsent(URGENT_LANE, "birth", self._birth)
            self._owes_birth = False
        except OutboxError as error:
            _LOG.warning("the birth waits: %s", error)

    def _send(self, transport: Transport, rows: list[Row], now_us: int) -> None:
        if not rows:
            return
        for lane in {row.lane for row in rows}:
            self._outbox.hand_over(
                max(row.seq for row in rows if row.lane == lane), lane
            )
        device, keys = self._enrolment, self._keys
        for row in rows:
            topic = up_topic(device.fleet, device.device, row.kind)
            payload = seal(row.body, key=keys.up, epoch=keys.epoch, aad=topic)
            self._publisher.sent(row.lane, row.seq, now_us)
            # A ticket is known only after publish; its answer comes in a later turn.
            self._tickets[transport.publish(topic, payload)] = row.seq

    def _dispatch(self, message: DownMessage | Announce) -> None:
        if isinstance(message, Ack):
            for boot_id, mark, bitmap in message.marks:
                if boot_id == self._outbox.boot_id:
                    self._publisher.ended(self._outbox.acknowledge(mark, bitmap))
        elif isinstance(message, Want):
            self._handlers.on_want(message)
        elif isinstance(message, Announce):
            self._handlers.on_announce(message)
        elif not (message.id in self._running or self._outbox.is_answered(message.id)):
            self._running.add(message.id)
            self._handlers.on_command(message)

    def _birth(self, boot_id: bytes, seq: int) -> Birth:
        return replace(
            self._identity.birth(boot_id, seq),
            lowest_seq=self._outbox.lowest_seq,
            down_floor=self._outbox.down_floor,
        )

    def _sealed_state(self, topic: str, *, online: bool) -> bytes:
        state = State(
            boot_id=self._outbox.boot_id,
            online=online,
            time_us=self._clock.wall_us(),
            serving=dict(self._identity.serving()),
            pending=self._outbox.pending,
        )
        body = encode_message(state)
        return seal(body, key=self._keys.up, epoch=self._keys.epoch, aad=topic)

    def _is_done(self) -> bool:
        if self._stop_by_us is None:
            return False
        if not self._ready or self._clock.monotonic_us() >= self._stop_by_us:
            return True
        return self._outbox.pending == 0 and not self._tickets

    def _say_goodbye(self, transport: Transport, topic: str) -> None:
        ticket = transport.publish(
            topic, self._sealed_state(topic, online=False), retain=True
        )
        self._tickets[ticket] = 0
        while ticket in self._tickets and not self._lost:
            if self._clock.monotonic_us() >= (self._stop_by_us or 0) + DRAIN_US:
                break
            transport.turn(_DRAIN_WAIT_SECONDS, self._wake_read)

    def _wait_seconds(self) -> float:
        if self._stop_by_us is not None:
            return _DRAIN_WAIT_SECONDS
        if not self._ready:
            return 1.0
        due_us = self._heartbeat_due_us
        next_us = self._publisher.next_due_us()
        if next_us is not None:
            due_us = min(due_us, next_us)
        left = (due_us - self._clock.monotonic_us()) / 1e6
        return min(max(left, 0.0), _MAX_WAIT_SECONDS)

    def _drop(self) -> None:
        transport, self._transport, self._ready = self._transport, None, False
        if transport is not None:
            transport.close()

    def _pause(self, seconds: float) -> None:
        until_us = self._clock.monotonic_us() + int(seconds * 1e6)
        while self._stop_by_us is None:
            left = (until_us - self._clock.monotonic_us()) / 1e6
            if left <= 0:
                return
            self._wake_read.settimeout(left)
            with contextlib.suppress(TimeoutError):
                self._wake_read.recv(4096)
            self._wake_read.settimeout(0)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_write.send(b"\0")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass
