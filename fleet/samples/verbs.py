# SPDX-License-Identifier: Apache-2.0
"""The verbs ``sample request|list|export``.

Owns their arguments and texts, and writing the exported files.
"""

import argparse
import io
import zipfile
from pathlib import Path

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table


def register(groups: Groups) -> None:
    """Add the group ``sample``."""
    verbs = add_group(groups, "sample", "ask devices for samples")
    request = add_verb(
        verbs,
        "request",
        _request,
        summary="ask devices for samples; each sends only what its owner allows",
        example="edge-fleet sample request watch-1 watch-2 --fraction 0.3",
    )
    request.add_argument("devices", nargs="+", metavar="DEVICE", help="device id")
    request.add_argument(
        "--fraction", default="1", help="first part of each recording (default: 1)"
    )
    request.add_argument(
        "--select",
        choices=("near-threshold", "novelty", "random"),
        default="",
        help="pick single frames in place of the beginning of recordings",
    )
    request.add_argument(
        "--frames", type=int, default=200, help="how many frames to pick"
    )
    request.add_argument("--reason", default="", help="told to the device")
    request.add_argument(
        "--valid-seconds", type=int, default=3600, help="how long it stays open"
    )
    listing = add_verb(
        verbs,
        "list",
        _list,
        summary="list requests and what came",
        example="edge-fleet sample list --json",
    )
    listing.add_argument("--fleet", help="only this fleet")
    export = add_verb(
        verbs,
        "export",
        _export,
        summary="write what came as one .npz a device",
        example="edge-fleet sample export 0123456789abcdef -o samples",
    )
    export.add_argument("request", metavar="REQUEST", help="id of the request")
    export.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder for the files"
    )


def _request(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {
        "devices": arguments.devices,
        "fraction": arguments.fraction,
        "select": arguments.select,
        "frames": arguments.frames,
        "reason": arguments.reason,
        "valid_seconds": arguments.valid_seconds,
    }
    document = client.post("/samples", body)
    text = f"request {document['request']} sent to {', '.join(document['devices'])}"
    return Answer(document, text)


def _list(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/samples", fleet=arguments.fleet)
    rows: list[tuple[object, ...]] = [
        (
            request["id"],
            one["device"],
            one["state"],
            f"{one['received']}/{one['chunks'] or '?'}",
            one["rows"],
            one["bytes"],
        )
        for request in document["requests"]
        for one in request["devices"]
    ]
    header = ("request", "device", "state", "chunks", "rows", "bytes")
    return Answer(document, format_table(header, rows))


def _export(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    content = client.get_bytes(f"/samples/{arguments.request}/export")
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            path = folder / Path(entry.filename).name
            path.write_bytes(archive.read(entry))
            files[path.stem] = str(path)
    lines = [f"{device}: {path}" for device, path in sorted(files.items())]
    return Answer({"files": files}, "\n".join(lines))
