# SPDX-License-Identifier: Apache-2.0
"""The channel down to the devices.

Owns sealing and numbering of down messages, and repeating them: commands until they
are replied to or expire, wants and announces after every birth and reconnection.
Nothing depends on the broker's memory. It decides no content.
"""

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, insert, select, update

from edge_contract.envelope import seal
from edge_contract.messages import (
    COMMAND_KINDS,
    Ack,
    Announce,
    Command,
    DownMessage,
    Want,
    encode_message,
    kind_of,
)
from edge_contract.topics import announce_topic, down_topic
from fleet.auth.keyring import KeyRing
from fleet.errors import RequestError
from fleet.services import Bus, Clock
from fleet.store.counters import raise_counter
from fleet.store.devices import find_device
from fleet.store.engine import writing
from fleet.store.tables import announces, outbound, wants

_LOG = logging.getLogger(__name__)
_SECOND_US = 1_000_000
_ACK_VALID_SECONDS = 600
_WANT_VALID_SECONDS = 7 * 86_400

AckMark = tuple[bytes, int, bytes]


class MqttDownlink:
    """Implements ``services.Downlink`` over a broker.

    Args:
        engine: The database.
        ring: The keys of the devices.
        clock: The time, for expiry.
        bus: The way into the broker.
    """

    def __init__(self, engine: Engine, ring: KeyRing, clock: Clock, bus: Bus) -> None:
        self._engine = engine
        self._ring = ring
        self._clock = clock
        self._bus = bus

    def publish_announce(self, fleet: str, version: int, spread_seconds: int) -> None:
        """Hint to all devices of ``fleet`` that there is newer metadata."""
        values = {"version": version, "spread_seconds": spread_seconds}
        with writing(self._engine) as connection:
            row = announces.c.fleet == fleet
            done = connection.execute(update(announces).where(row).values(**values))
            if done.rowcount == 0:
                connection.execute(insert(announces).values(fleet=fleet, **values))
        self._publish_announce(fleet, version, spread_seconds)

    def send_command(
        self, device: str, kind: str, arguments: dict[str, Any], *, valid_seconds: int
    ) -> str:
        """Store and send a command; return its id, under which the reply comes.

        Raises:
            NotFoundError: No device has this id.
            RequestError: The kind is not in the closed list.
        """
        with writing(self._engine) as connection:
            command = insert_command(
                connection,
                device,
                kind,
                arguments,
                now_us=self._clock.wall_us(),
                valid_seconds=valid_seconds,
            )
        self.send_open_commands(device)
        return command

    def send_acks(self, acks: Mapping[str, tuple[AckMark, ...]]) -> None:
        """Send acks, a device with its marks."""
        expires_s = self._now_seconds() + _ACK_VALID_SECONDS
        sealed = []
        with writing(self._engine) as connection:
            for device, marks in acks.items():
                row = find_device(connection, device)
                seq = _next_down_seq(connection, device)
                sealed.append(self._seal(row, Ack(seq, expires_s, marks)))
        for topic, payload in sealed:
            self._bus.publish(topic, payload)

    def greet(self, device: str) -> None:
        """Send all that is meant for a device that was just born."""
        with writing(self._engine) as connection:
            row = find_device(connection, device)
            sealed = self._seal_want(connection, row)
            query = select(announces).where(announces.c.fleet == row["fleet"])
            announce = connection.execute(query).first()
        self._bus.publish(*sealed, retain=True)
        if announce is not None:
            self._publish_announce(
                announce.fleet, announce.version, announce.spread_seconds
            )
        self.send_open_commands(device)

    def greet_all(self) -> None:
        """Repeat announces and open commands after a reconnection."""
        with writing(self._engine) as connection:
            hints = connection.execute(select(announces)).all()
            waiting = connection.execute(
                select(outbound.c.device).where(*self._open()).distinct()
            ).scalars()
            names = list(waiting)
        for hint in hints:
            self._publish_announce(hint.fleet, hint.version, hint.spread_seconds)
        for name in names:
            self.send_open_commands(name)

    def send_open_commands(self, device: str) -> None:
        """Send a device its commands that are neither replied to nor expired."""
        sealed = []
        with writing(self._engine) as connection:
            row = find_device(connection, device)
            query = select(outbound).where(outbound.c.device == device, *self._open())
            found = connection.execute(query.order_by(outbound.c.created_us))
            for one in found.all():
                command = Command(
                    down_seq=_next_down_seq(connection, device),
                    expires_s=one.expires_us // _SECOND_US,
                    id=one.id,
                    kind=one.kind,
                    arguments=one.arguments,
                )
                sealed.append(self._seal(row, command))
        for topic, payload in sealed:
            if not self._bus.publish(topic, payload):
                _LOG.info("command to %s waits for the broker", device)

    def _open(self) -> tuple[Any, Any]:
        return (
            outbound.c.replied_us.is_(None),
            outbound.c.expires_us > self._clock.wall_us(),
        )

    def _seal_want(self, connection: Connection, row: RowMapping) -> tuple[str, bytes]:
        query = select(wants).where(wants.c.device == row["id"])
        want = connection.execute(query).first()
        message = Want(
            down_seq=_next_down_seq(connection, row["id"]),
            expires_s=self._now_seconds() + _WANT_VALID_SECONDS,
            generation=0 if want is None else want.generation,
            config={} if want is None else want.config,
            tags=row["tags"],
        )
        return self._seal(row, message)

    def _seal(self, row: RowMapping, message: DownMessage) -> tuple[str, bytes]:
        topic = down_topic(row["fleet"], row["id"], kind_of(message))
        keys = self._ring.find(row["id"], row["epoch"])
        payload = encode_message(message)
        return topic, seal(payload, key=keys.down, epoch=keys.epoch, aad=topic)

    def _publish_announce(self, fleet: str, version: int, spread_seconds: int) -> None:
        payload = encode_message(Announce(version, spread_seconds))
        self._bus.publish(announce_topic(fleet), payload, retain=True)

    def _now_seconds(self) -> int:
        return self._clock.wall_us() // _SECOND_US


def insert_command(
    connection: Connection,
    device: str,
    kind: str,
    arguments: dict[str, Any],
    *,
    now_us: int,
    valid_seconds: int,
) -> str:
    """Store a command inside the caller's transaction; return its id.

    Raises:
        NotFoundError: No device has this id.
        RequestError: The kind is not in the closed list.
    """
    find_device(connection, device)
    if kind not in COMMAND_KINDS:
        message = f"command: expected one of {', '.join(COMMAND_KINDS)}, found {kind}"
        raise RequestError(message, next_step="send a command from the list")
    identity = secrets.token_hex(8)
    connection.execute(
        insert(outbound).values(
            id=identity,
            device=device,
            kind=kind,
            arguments=arguments,
            created_us=now_us,
            expires_us=now_us + valid_seconds * _SECOND_US,
        )
    )
    return identity


def _next_down_seq(connection: Connection, device: str) -> int:
    return raise_counter(connection, f"down_seq/{device}")
