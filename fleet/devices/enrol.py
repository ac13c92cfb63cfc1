# SPDX-License-Identifier: Apache-2.0
"""Enrolling devices.

Owns adding rows to ``devices`` and making the enrolment that a device installs. The
key inside is derived, not stored: the enrolment can be made again from the master key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select

from edge_contract.enrolment import Enrolment
from edge_contract.topics import check_device_id
from fleet.auth.keyring import KeyRing
from fleet.errors import ConflictError, RequestError, StateError
from fleet.store.tables import devices

_FIRST_EPOCH = 1
_MAX_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where devices find the server.

    Args:
        broker_host: MQTT.
        broker_port: MQTT.
        api_url: HTTP, without a path.
        tuf_root: File with the trusted root metadata.
    """

    broker_host: str
    broker_port: int
    api_url: str
    tuf_root: Path


def insert_devices(
    connection: Connection,
    ids: Sequence[str],
    *,
    fleet: str,
    tags: dict[str, str],
    now_us: int,
) -> None:
    """Add devices, all or none.

    Raises:
        TopicError: An id breaks the grammar.
        RequestError: No id, too many, or one twice.
        ConflictError: An id is taken.
    """
    if not 1 <= len(ids) <= _MAX_AT_ONCE or len(set(ids)) != len(ids):
        message = f"device ids: expected 1 to {_MAX_AT_ONCE} different ones"
        raise RequestError(message, next_step="name each device once")
    for one in ids:
        check_device_id(one)
    taken = connection.execute(select(devices.c.id).where(devices.c.id.in_(ids)))
    found = sorted(taken.scalars())
    if found:
        message = f"devices: expected new ids, found {', '.join(found[:10])} in use"
        raise ConflictError(message, next_step="choose other ids")
    rows = [
        {
            "id": one,
            "fleet": fleet,
            "epoch": _FIRST_EPOCH,
            "tags": tags,
            "created_us": now_us,
        }
        for one in ids
    ]
    connection.execute(insert(devices), rows)


def make_enrolment(
    device: str, fleet: str, tags: dict[str, str], ring: KeyRing, endpoints: Endpoints
) -> Enrolment:
    """Make the enrolment of a device that was just added.

    Raises:
        StateError: The trusted root cannot be read.
    """
    try:
        root = endpoints.tuf_root.read_bytes()
    except OSError as error:
        message = f"{endpoints.tuf_root}: expected the trusted root: {error}"
        raise StateError(message, next_step="run `edge-fleet init` again") from error
    return Enrolment(
        fleet=fleet,
        device=device,
        key=ring.device_key(device, _FIRST_EPOCH),
        epoch=_FIRST_EPOCH,
        tuf_root=root,
        broker_host=endpoints.broker_host,
        broker_port=endpoints.broker_port,
        api_url=endpoints.api_url,
        tags=tags,
    )
