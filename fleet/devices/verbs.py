# SPDX-License-Identifier: Apache-2.0
"""The verbs ``device add|list|show``.

Owns their arguments and texts, and writing enrolment files (0600).
"""

import argparse
from pathlib import Path
from typing import Any

from edge_contract.enrolment import Enrolment
from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table, require
from fleet.errors import ConflictError


def register(groups: Groups) -> None:
    """Add the group ``device``."""
    verbs = add_group(groups, "device", "enrol devices and see what they do")
    add = add_verb(
        verbs,
        "add",
        _add,
        summary="add devices and write one enrolment file for each",
        example="edge-fleet device add watch-1 watch-2 --tag arm=right -o enrolments",
    )
    add.add_argument("ids", nargs="+", metavar="ID", help="device id")
    add.add_argument("--fleet", default="default", help="fleet (default: default)")
    add.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="tag to set"
    )
    add.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder for the files"
    )
    listing = add_verb(
        verbs,
        "list",
        _list,
        summary="list devices",
        example="edge-fleet device list --json",
    )
    listing.add_argument("--fleet", help="only this fleet")
    listing.add_argument(
        "--where",
        metavar="QUERY",
        help="only devices whose tags fit, e.g. 'site=berlin and not hw=pi3'",
    )
    show = add_verb(
        verbs,
        "show",
        _show,
        summary="show one device with its totals and updates",
        example="edge-fleet device show watch-1",
    )
    show.add_argument("id", metavar="ID", help="device id")


def _add(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    tags = dict(_parse_tag(text) for text in arguments.tag)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {one: folder / f"{one}.enrol.json" for one in arguments.ids}
    for path in paths.values():
        if path.exists():
            message = f"{path}: expected no such file, found one"
            raise ConflictError(message, next_step="choose another folder with -o")
    body = {"ids": arguments.ids, "fleet": arguments.fleet, "tags": tags}
    made = client.post("/devices", body)["enrolments"]
    for one, text in made.items():
        Enrolment.from_json(text.encode()).save(paths[one])
    files = {one: str(path) for one, path in paths.items()}
    lines = [f"added {one}: {path}" for one, path in files.items()]
    lines.append("Next: edge-agent enrol FILE on each device; it deletes the file.")
    return Answer({"devices": files}, "\n".join(lines))


def _list(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/devices", fleet=arguments.fleet, where=arguments.where)
    rows: list[tuple[object, ...]] = [
        (
            one["id"],
            one["fleet"],
            "online" if one["online_hint"] else "offline",
            _short_serving(one["serving"]),
            one["totals"].get("windows", 0),
            one["totals"].get("inferences", 0),
            one["totals"].get("lost", 0),
        )
        for one in document["devices"]
    ]
    header = ("device", "fleet", "state", "serving", "windows", "inferences", "lost")
    lines = [format_table(header, rows)]
    lines += [
        f"refused from no known device, {why}: {n}"
        for why, n in document["refusals"].items()
    ]
    return Answer(document, "\n".join(lines))


def _show(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get(f"/devices/{arguments.id}")
    lines = [f"{document['id']} in fleet {document['fleet']}"]
    lines.append(f"serving: {_short_serving(document['serving'])}")
    lines += [f"{name}: {count}" for name, count in document["totals"].items()]
    lines += [f"refused {why}: {n}" for why, n in document["refusals"].items()]
    lines += [
        f"{one['severity']} {one['name']}: {one['detail']}"
        for one in document["events"]
    ]
    lines += [
        f"update {one['digest'][:12]}: {one['state']} {one['reason']}".rstrip()
        for one in document["updates"]
    ]
    return Answer(document, "\n".join(lines))


def _short_serving(serving: dict[str, Any] | None) -> str:
    pairs = (serving or {}).items()
    return " ".join(f"{slot}={digest[:12]}" for slot, digest in pairs) or "-"


def _parse_tag(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    require(sign and key, f"--tag: expected KEY=VALUE, found {text}", "write KEY=VALUE")
    return key, value
