# SPDX-License-Identifier: Apache-2.0
"""Requests for samples and the chunks that came.

Owns the tables ``sample_requests``, ``sample_targets`` and ``samples``, and the files
``samples/<request>/<device>/<n>.cbor``. A file is written before its row, so that a
row never names a file that is not there.
"""

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from fleet.errors import ConflictError, NotFoundError
from fleet.samples.chunk import Chunk
from fleet.store.tables import outbound, sample_requests, sample_targets, samples


def insert_request(
    connection: Connection,
    devices: Sequence[str],
    *,
    fleet: str,
    arguments: dict[str, Any],
    now_us: int,
    expires_us: int,
) -> str:
    """Store a request to ``devices``; return its id."""
    request = secrets.token_hex(8)
    connection.execute(
        insert(sample_requests).values(
            id=request,
            fleet=fleet,
            arguments=arguments,
            created_us=now_us,
            expires_us=expires_us,
        )
    )
    rows = [{"request": request, "device": one, "command": None} for one in devices]
    connection.execute(insert(sample_targets), rows)
    return request


def note_command(
    connection: Connection, request: str, device: str, command: str
) -> None:
    """Note under which command the request went to ``device``."""
    connection.execute(
        update(sample_targets)
        .where(sample_targets.c.request == request, sample_targets.c.device == device)
        .values(command=command)
    )


def check_target(connection: Connection, request: str, device: str) -> None:
    """Refuse an upload that nobody asked for.

    Raises:
        NotFoundError: ``device`` was not asked under ``request``.
    """
    query = select(sample_targets.c.device).where(
        sample_targets.c.request == request, sample_targets.c.device == device
    )
    if connection.execute(query).first() is None:
        message = f"samples: device {device} was not asked under request {request}"
        raise NotFoundError(message, next_step="see `edge-fleet sample list`")


def chunk_path(folder: Path, request: str, device: str, number: int) -> Path:
    """Return the file of one chunk; the ids must have been checked before."""
    return folder / request / device / f"{number}.cbor"


def save_chunk_file(path: Path, payload: bytes) -> None:
    """Write a chunk's file, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with part.open("wb") as stream:
        stream.write(payload)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def find_chunk_digest(
    connection: Connection, request: str, device: str, number: int
) -> str | None:
    """Return the digest of a chunk that came before, None when it did not."""
    query = select(samples.c.sha256).where(
        samples.c.request == request,
        samples.c.device == device,
        samples.c.number == number,
    )
    return connection.execute(query).scalar()


def check_same(known: str | None, payload: bytes, number: int) -> bool:
    """Tell whether the chunk came before.

    Raises:
        ConflictError: Another content came under its number.
    """
    if known is None:
        return False
    if known != hashlib.sha256(payload).hexdigest():
        message = f"samples: chunk {number} came before with another content"
        raise ConflictError(message, next_step="ask for samples again")
    return True


def insert_chunk(
    connection: Connection,
    key: tuple[str, str, int],
    payload: bytes,
    chunk: Chunk,
    now_us: int,
) -> None:
    """Store the row of a written chunk; ``key`` is request, device and number."""
    connection.execute(
        insert(samples).values(
            request=key[0],
            device=key[1],
            number=key[2],
            sha256=hashlib.sha256(payload).hexdigest(),
            bytes=len(payload),
            rows=len(chunk.x),
            chunks=chunk.chunks,
            received_us=now_us,
        )
    )


def list_requests(connection: Connection, fleet: str | None) -> list[dict[str, Any]]:
    """Return requests with what each device sent, the latest first."""
    query = select(sample_requests).order_by(sample_requests.c.created_us.desc())
    if fleet is not None:
        query = query.where(sample_requests.c.fleet == fleet)
    found = connection.execute(query).mappings().all()
    return [
        {
            "id": row["id"],
            "fleet": row["fleet"],
            "arguments": row["arguments"],
            "created_us": row["created_us"],
            "expires_us": row["expires_us"],
            "devices": _list_targets(connection, row["id"]),
        }
        for row in found
    ]


def _list_targets(connection: Connection, request: str) -> list[dict[str, Any]]:
    query = (
        select(
            sample_targets.c.device,
            outbound.c.reply,
            func.count(samples.c.number).label("received"),
            func.coalesce(func.sum(samples.c.rows), 0).label("rows"),
            func.coalesce(func.sum(samples.c.bytes), 0).label("bytes"),
            func.max(samples.c.chunks).label("chunks"),
        )
        .select_from(
            sample_targets.outerjoin(
                outbound, outbound.c.id == sample_targets.c.command
            ).outerjoin(
                samples,
                (samples.c.request == sample_targets.c.request)
                & (samples.c.device == sample_targets.c.device),
            )
        )
        .where(sample_targets.c.request == request)
        .group_by(sample_targets.c.device, outbound.c.id)
        .order_by(sample_targets.c.device)
    )
    return [_target(dict(row)) for row in connection.execute(query).mappings()]


def _target(row: dict[str, Any]) -> dict[str, Any]:
    reply = row["reply"] or {}
    if row["chunks"] is not None and row["received"] >= row["chunks"]:
        state = "complete"
    elif reply and not reply["accepted"]:
        state = "refused"
    else:
        state = "waiting" if not row["received"] else "receiving"
    return {**row, "reply": reply, "state": state}
