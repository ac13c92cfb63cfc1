# SPDX-License-Identifier: Apache-2.0
"""The verbs ``rollout create|show|list|pause|resume|abort``.

Owns their arguments and words; the server decides.
"""

import argparse
import re
from typing import Any

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table, require

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ACCEPT_HELP = (
    "go on although the fleet is too small to show that the release is good; the text"
    " says why and is recorded"
)


def register(groups: Groups) -> None:
    """Add the noun ``rollout``."""
    rollouts = add_group(groups, "rollout", "Bring a release to devices in phases.")
    create = add_verb(
        rollouts,
        "create",
        _create,
        summary="Begin a rollout: a few devices, a gate, then all. Naming an older"
        " release rolls back.",
        example="edge-fleet rollout create --model watch --release 2 --canary 60",
    )
    _add_create_arguments(create)
    show = add_verb(
        rollouts,
        "show",
        _show,
        summary="Show phases, gates and devices of one rollout.",
        example="edge-fleet rollout show r3 --json",
    )
    add_verb(
        rollouts,
        "list",
        _list,
        summary="List the rollouts, newest first.",
        example="edge-fleet rollout list",
    )
    pause = add_verb(
        rollouts,
        "pause",
        _post("pause"),
        summary="Let no further device begin; those that began go on.",
        example="edge-fleet rollout pause r3",
    )
    resume = add_verb(
        rollouts,
        "resume",
        _resume,
        summary="Go on after a pause, or after a gate held the rollout.",
        example="edge-fleet rollout resume r3",
    )
    resume.add_argument(
        "--accept-insufficient-evidence", metavar="TEXT", help=_ACCEPT_HELP
    )
    abort = add_verb(
        rollouts,
        "abort",
        _post("abort"),
        summary="End a rollout; its devices return to what they had before.",
        example="edge-fleet rollout abort r3",
    )
    for parser in (show, pause, resume, abort):
        parser.add_argument("rollout", metavar="ROLLOUT", help="its id, such as r3")


def _add_create_arguments(create: argparse.ArgumentParser) -> None:
    create.add_argument("--model", metavar="NAME", required=True)
    create.add_argument(
        "--release", metavar="N", type=int, help="its number (default: the newest)"
    )
    create.add_argument("--fleet", metavar="FLEET", default="default")
    create.add_argument("--slot", metavar="SLOT", default="main")
    phases = create.add_mutually_exclusive_group()
    phases.add_argument(
        "--canary",
        metavar="N",
        type=int,
        default=1,
        help="devices of the first phase, before all (default: %(default)s)",
    )
    phases.add_argument(
        "--phases", metavar="P,P…", help="all phases, e.g. 60,10%%,50%%,all"
    )
    create.add_argument(
        "--tag",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="only devices with this tag; may be repeated",
    )
    create.add_argument(
        "--max-failures",
        metavar="PERCENT",
        default="5%",
        help="the share of failures must be shown to be below this (default: 5%%)",
    )
    create.add_argument(
        "--deadline",
        metavar="TIME",
        default="1h",
        help="a device that began is late after this (default: %(default)s)",
    )
    create.add_argument(
        "--soak",
        metavar="TIME",
        default="0s",
        help="watch each phase this long after its last device (default: %(default)s)",
    )
    create.add_argument(
        "--accept-insufficient-evidence", metavar="TEXT", help=_ACCEPT_HELP
    )


def _create(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    phases = arguments.phases
    body = {
        "model": arguments.model,
        "release": arguments.release,
        "fleet": arguments.fleet,
        "slot": arguments.slot,
        "phases": [str(arguments.canary)] if phases is None else phases.split(","),
        "tags": dict(_parse_tag(word) for word in arguments.tag),
        "failure_percent": _parse_percent(arguments.max_failures),
        "deadline_seconds": _parse_duration("--deadline", arguments.deadline),
        "soak_seconds": _parse_duration("--soak", arguments.soak),
        "accept_insufficient_evidence": arguments.accept_insufficient_evidence,
    }
    return _answer(client.post("/rollouts", body))


def _show(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    return _answer(client.get(f"/rollouts/{arguments.rollout}"))


def _list(_arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/rollouts")
    rows: list[tuple[object, ...]] = [
        (
            one["id"],
            one["fleet"],
            f"{one['model']} {one['release']}",
            one["state"],
            one["reason"],
        )
        for one in document["rollouts"]
    ]
    header = ("id", "fleet", "release", "state", "reason")
    return Answer(document, format_table(header, rows) if rows else "no rollouts yet")


def _post(verb: str) -> Any:
    def handle(arguments: argparse.Namespace, client: FleetClient) -> Answer:
        return _answer(client.post(f"/rollouts/{arguments.rollout}/{verb}", {}))

    return handle


def _resume(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {"accept_insufficient_evidence": arguments.accept_insufficient_evidence}
    return _answer(client.post(f"/rollouts/{arguments.rollout}/resume", body))


def _answer(document: dict[str, Any]) -> Answer:
    what = f"{document['model']} release {document['release']}"
    where = f"fleet {document['fleet']}, slot {document['slot']}"
    lines = [f"rollout {document['id']}: {what} to {where}: {document['state']}"]
    if document["reason"]:
        lines.append(f"  {document['reason']}")
    if document["accepted_insufficient_evidence"] is not None:
        text = document["accepted_insufficient_evidence"]
        lines.append(f"  insufficient evidence was accepted: {text}")
    phases = document["phases"]
    lines += [f"  phase {one['number']}: {_describe(one)}" for one in phases]
    for device, one in document.get("devices", {}).items():
        reason = f" ({one['reason']})" if one["reason"] else ""
        lines.append(f"    {device}: {one['outcome']}{reason}")
    return Answer(document, "\n".join(lines))


def _describe(phase: dict[str, Any]) -> str:
    who = {
        "canary": f"{phase['amount']} devices first",
        "percent": f"{phase['amount']} % of the devices",
        "all": "all devices",
    }[phase["kind"]]
    gate = phase["gate"]
    words = "" if gate is None else f": {gate['words']}"
    return f"{who}: {phase['state']}{words}"


def _parse_tag(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    require(
        key and sign,
        f"--tag: expected KEY=VALUE, found {word!r}",
        "write it as in --tag site=north",
    )
    return key, value


def _parse_percent(word: str) -> int:
    digits = word.removesuffix("%")
    require(
        digits.isascii() and digits.isdigit(),
        f"--max-failures: expected a whole percentage, found {word!r}",
        "write it as in --max-failures 5%",
    )
    return int(digits)


def _parse_duration(option: str, word: str) -> int:
    match = _DURATION.fullmatch(word)
    require(
        match,
        f"{option}: expected a duration like 30s, 10m, 2h or 1d, found {word!r}",
        f"write it as in {option} 10m",
    )
    return int(word[:-1]) * _SECONDS[word[-1]]
