# SPDX-License-Identifier: Apache-2.0
"""The registry over HTTP: the TUF files for devices, the catalogue for everyone else.

Owns the routes below ``/api/v1/models`` and ``/api/v1/keys``, and the files below
``/tuf``, which need no token because every one of them is signed or named by its
digest.
"""

import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from fleet.auth.actor import find_request_actor
from fleet.errors import NotFoundError, RequestError, TooLargeError
from fleet.registry.registry import Registry
from fleet.registry.release import MAX_MODELS_BYTES

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_METADATA = re.compile(r"timestamp\.json|[0-9]{1,19}\.[a-z0-9-]{1,64}\.json", re.ASCII)
_TARGET = re.compile(
    r"(?:models|deltas|fleets/[a-z0-9-]{1,32})/(?P<sha256>[0-9a-f]{64})\.[a-z0-9._-]{1,100}",
    re.ASCII,
)
# What is named by version or digest never changes; a missing next root may appear.
_FOREVER = "public, max-age=31536000, immutable"
_CHECK_FIRST = "no-cache"


def make_model_routes(registry: Registry) -> APIRouter:
    """Return the routes of catalogue and publication, below ``/api/v1``."""
    router = APIRouter(tags=["models"])

    @router.get("/models")
    def list_models() -> dict[str, Any]:
        return {"models": [entry.to_json() for entry in registry.list_entries()]}

    @router.get("/models/metadata")
    def read_metadata() -> Response:
        return Response(registry.models_document(), media_type="application/json")

    @router.get("/models/{name}/{release}")
    def show_model(name: str, release: int) -> dict[str, Any]:
        entry = registry.find_entry(name, release)
        return {**entry.to_json(), "manifest": entry.manifest}

    @router.put("/models/bundles/{sha256}")
    async def upload_bundle(sha256: str, request: Request) -> dict[str, Any]:
        if not _SHA256.fullmatch(sha256):
            raise RequestError(
                f"bundle: expected a sha256 in the address, found {sha256[:80]!r}",
                next_step="upload with `edge-fleet model publish`",
            )
        stored = await registry.publication.stage(sha256, request.stream())
        return {"sha256": sha256, "bytes": stored}

    @router.put("/models/metadata")
    async def publish_metadata(request: Request) -> dict[str, Any]:
        data = await _read_bounded(request)
        actor = find_request_actor(request)
        change = await run_in_threadpool(registry.publication.publish, data, actor)
        return {
            "added": [one.target_path for one in change.added],
            "withdrawn": [one.target_path for one in change.withdrawn],
        }

    @router.get("/keys")
    def show_keys() -> dict[str, Any]:
        return registry.keys_status()

    return router


def make_file_routes(folder: Path) -> APIRouter:
    """Return the routes that serve the TUF repository in ``folder``."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/tuf/metadata/{name}", methods=["GET", "HEAD"])
    def send_metadata(name: str) -> Response:
        if not _METADATA.fullmatch(name):
            raise _not_found(name)
        cache = _CHECK_FIRST if name == "timestamp.json" else _FOREVER
        return _send(folder / "metadata" / name, {"cache-control": cache})

    @router.api_route("/tuf/targets/{path:path}", methods=["GET", "HEAD"])
    def send_target(path: str) -> Response:
        match = _TARGET.fullmatch(path)
        if match is None:
            raise _not_found(path)
        # The digest as entity tag lets a device resume with If-Range.
        headers = {"cache-control": _FOREVER, "etag": f'"{match["sha256"]}"'}
        return _send(folder / "targets" / path, headers)

    return router


def _send(path: Path, headers: dict[str, str]) -> Response:
    if not path.is_file():
        raise _not_found(path.name)
    kind = "application/json" if path.suffix == ".json" else "application/octet-stream"
    return FileResponse(path, headers=headers, media_type=kind)


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(
        f"tuf: no file {name[:120]!r} is published",
        next_step="start from timestamp.json, as a TUF client does",
    )


async def _read_bounded(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_MODELS_BYTES:
            raise TooLargeError(
                f"models: expected at most {MAX_MODELS_BYTES} bytes",
                next_step="withdraw releases that no device needs any more",
            )
    return bytes(data)
