# SPDX-License-Identifier: Apache-2.0
"""Receiving a chunk from a device.

Owns the order of checks: size, request, MAC, content. The path is the envelope's
``aad``, so a chunk cannot be moved to another device, request or number.
"""

from fastapi import Request

from edge_contract.envelope import OVERHEAD_BYTES, unseal
from edge_contract.errors import EnvelopeError
from fleet.auth.keyring import KeyRing
from fleet.errors import RefusedError, RequestError, TooLargeError
from fleet.samples.chunk import parse_chunk
from fleet.samples.storage import (
    check_same,
    check_target,
    chunk_path,
    find_chunk_digest,
    insert_chunk,
    save_chunk_file,
)
from fleet.services import Services
from fleet.store.devices import find_device
from fleet.store.engine import reading, writing
from fleet.store.refusals import add_refusals

REASON = "sample-envelope"


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a body without ever holding more than ``max_bytes``.

    Raises:
        TooLargeError: The body is larger.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            message = f"samples: expected a chunk of at most {max_bytes} bytes"
            raise TooLargeError(message, next_step="send smaller chunks")
    return bytes(body)


def receive_chunk(
    services: Services, ring: KeyRing, key: tuple[str, str, int], path: str, body: bytes
) -> bool:
    """Store one chunk; return False when the same came before.

    Args:
        services: The server's parts.
        ring: The keys of the devices.
        key: Request, device and number.
        path: The path of the HTTP request.
        body: The envelope.

    Raises:
        FleetError: The chunk is refused; the class says why.
    """
    request, device, number = key
    config = services.config.samples
    if not 0 <= number < config.max_chunks:
        message = f"samples: expected a number below {config.max_chunks}: {number}"
        raise RequestError(message, next_step="ask for fewer samples")
    with reading(services.engine) as connection:
        row = find_device(connection, device)
        check_target(connection, request, device)
        known = find_chunk_digest(connection, request, device, number)
    keys = ring.find(device, row["epoch"])
    try:
        payload = unseal(body, key=keys.up, aad=path, max_bytes=config.max_chunk_bytes)
    except EnvelopeError as error:
        with writing(services.engine) as connection:
            now_us = services.clock.wall_us()
            add_refusals(connection, REASON, device, 1, now_us)
        message = f"samples of {device}: {error.message}"
        step = "enrol the device again if its key changed"
        raise RefusedError(message, next_step=step) from error
    if check_same(known, payload, number):
        return False
    chunk = parse_chunk(payload, max_bytes=config.max_chunk_bytes - OVERHEAD_BYTES)
    save_chunk_file(chunk_path(services.layout.samples, *key), payload)
    with writing(services.engine) as connection:
        known = find_chunk_digest(connection, request, device, number)
        if check_same(known, payload, number):
            return False
        insert_chunk(connection, key, payload, chunk, services.clock.wall_us())
    return True
