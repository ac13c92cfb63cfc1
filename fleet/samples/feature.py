# SPDX-License-Identifier: Apache-2.0
"""REST routes of samples.

Owns ``/samples`` for people and ``PUT /devices/…/samples/…`` for devices, which needs
no token because every chunk is sealed with the device's key.
"""

import io
import re
import tempfile
import zipfile
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from fleet.audit.log import append_audit
from fleet.auth.actor import find_request_actor
from fleet.auth.keyring import KeyRing
from fleet.errors import RequestError
from fleet.samples.export import export_samples
from fleet.samples.storage import insert_request, list_requests, note_command
from fleet.samples.upload import read_body, receive_chunk
from fleet.services import Feature, OpenPath, Services
from fleet.store.devices import find_device
from fleet.store.engine import reading, writing

_UPLOAD = r"/api/v1/devices/[a-z0-9._-]+/samples/[0-9a-f]+/[0-9]+"
_SECOND_US = 1_000_000
_MOST_SECONDS = 86_400  # that a device looks for frames


class NewRequest(BaseModel):
    """The body of a request for samples."""

    model_config = ConfigDict(extra="forbid")

    devices: list[str]
    fraction: str = "1"
    valid_seconds: int = 3600
    select: Literal["", "near-threshold", "novelty", "random"] = ""
    frames: int = Field(default=200, gt=0, le=256)
    reason: str = Field(default="", max_length=200)


def build(services: Services, ring: KeyRing) -> Feature:
    """Build the feature."""
    router = APIRouter()

    @router.post("/samples")
    def request_samples(body: NewRequest, request: Request) -> dict[str, Any]:
        return _request_samples(services, body, find_request_actor(request))

    @router.get("/samples")
    def get_samples(fleet: str | None = None) -> dict[str, Any]:
        with reading(services.engine) as connection:
            return {"requests": list_requests(connection, fleet)}

    @router.get("/samples/{request_id}/export")
    def get_export(request_id: str) -> Response:
        if not re.fullmatch("[0-9a-f]+", request_id):
            raise RequestError("samples: not a request id", next_step="see sample list")
        content = _zip_export(services, request_id)
        return Response(content, media_type="application/zip")

    @router.put("/devices/{device}/samples/{request_id}/{number}")
    async def put_chunk(
        device: str, request_id: str, number: int, request: Request
    ) -> dict[str, bool]:
        body = await read_body(request, services.config.samples.max_chunk_bytes)
        key = (request_id, device, number)
        path = request.url.path
        stored = await run_in_threadpool(receive_chunk, services, ring, key, path, body)
        return {"stored": stored}

    return Feature(
        name="samples", routers=(router,), open_paths=(OpenPath("PUT", _UPLOAD),)
    )


def _request_samples(
    services: Services, body: NewRequest, actor: str
) -> dict[str, Any]:
    fraction = _check_fraction(body.fraction)
    if not body.devices or len(set(body.devices)) != len(body.devices):
        message = "samples: expected one or more different devices"
        raise RequestError(message, next_step="name each device once")
    now_us = services.clock.wall_us()
    with writing(services.engine) as connection:
        fleets = {find_device(connection, one)["fleet"] for one in body.devices}
        if len(fleets) != 1:
            message = f"samples: expected devices of one fleet, found {sorted(fleets)}"
            raise RequestError(message, next_step="ask each fleet by itself")
        request = insert_request(
            connection,
            body.devices,
            fleet=fleets.pop(),
            arguments={"fraction": fraction},
            now_us=now_us,
            expires_us=now_us + body.valid_seconds * _SECOND_US,
        )
        append_audit(
            connection,
            time_us=now_us,
            actor=actor,
            action="sample.request",
            subject=request,
            detail={
                "devices": body.devices,
                "fraction": fraction,
                "select": body.select,
                "reason": body.reason,
            },
        )
    arguments = {
        "request": request,
        "fraction": fraction,
        "max_chunks": services.config.samples.max_chunks,
    }
    if body.select:
        chosen = {"select": body.select, "frames": body.frames}
        chosen["seconds"] = min(body.valid_seconds, _MOST_SECONDS)
        arguments |= chosen | {"reason": body.reason or "asked by the fleet"}
    for device in body.devices:
        command = services.downlink.send_command(
            device, "sample", arguments, valid_seconds=body.valid_seconds
        )
        with writing(services.engine) as connection:
            note_command(connection, request, device, command)
    return {"request": request, "devices": body.devices}


def _check_fraction(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(0)
    if not (value.is_finite() and 0 < value <= 1):
        message = f"fraction: expected a number above 0 and up to 1, found {text}"
        raise RequestError(message, next_step="write for example 0.3")
    return str(value)


def _zip_export(services: Services, request: str) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        files = export_samples(
            services.engine, services.layout.samples, request, Path(name)
        )
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in files.values():
                archive.write(path, path.name)
    return buffer.getvalue()
