# SPDX-License-Identifier: Apache-2.0
"""The verbs of the noun ``rollout``.

Owns their words; options of ``create`` are in ``options``, and the server decides.
"""

import argparse
from typing import Any

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, Handler, add_group, add_verb, format_table
from fleet.rollout.options import ACCEPT_HELP, add_create_options, make_create_body

_SHOWN = 10  # names of a phase
_SIMPLE = (
    ("start", "Begin a draft."),
    ("pause", "Let no further device begin; those that began go on."),
    ("abort", "End a rollout; its devices return to what they had before."),
    ("roll-back", "Bring a rollout's devices back, even when it is completed."),
    ("approve", "Do what somebody else asked for, where two persons are wanted."),
)


def register(groups: Groups) -> None:
    """Add the noun ``rollout``."""
    rollouts = add_group(groups, "rollout", "Bring a release to devices in phases.")
    create = add_verb(
        rollouts,
        "create",
        _create,
        summary="Begin a rollout: a few devices, a gate, then all.",
        example="edge-fleet rollout create --model watch --release 2 --canary 60",
    )
    add_create_options(create)
    add_verb(
        rollouts,
        "list",
        _list,
        summary="List the rollouts, newest first.",
        example="edge-fleet rollout list",
    )
    _add_named(rollouts, "show", _show, "Show phases, gates and devices of one.")
    for name, summary in _SIMPLE:
        _add_named(rollouts, name, _post(name), summary)
    resume = _add_named(
        rollouts,
        "resume",
        _resume,
        "Go on after a pause, or after a gate held or halted the rollout.",
    )
    resume.add_argument(
        "--accept-insufficient-evidence", metavar="TEXT", help=ACCEPT_HELP
    )
    promote = _add_named(
        rollouts,
        "promote",
        _promote,
        "Let the running phase pass without the evidence; the reason is recorded.",
        example="edge-fleet rollout promote r3 --reason 'tested on the bench'",
    )
    promote.add_argument("--reason", metavar="TEXT", required=True)
    _add_penalty_verbs(rollouts)


def _add_penalty_verbs(rollouts: Groups) -> None:
    add_verb(
        rollouts,
        "boxed",
        _boxed,
        summary="List devices that failed three times and are left out.",
        example="edge-fleet rollout boxed",
    )
    release = add_verb(
        rollouts,
        "release",
        _release,
        summary="Let a device out of the penalty box, to try again.",
        example="edge-fleet rollout release watch-3",
    )
    release.add_argument("device", metavar="DEVICE")


def _add_named(
    rollouts: Groups, name: str, handler: Handler, summary: str, *, example: str = ""
) -> argparse.ArgumentParser:
    parser = add_verb(
        rollouts,
        name,
        handler,
        summary=summary,
        example=example or f"edge-fleet rollout {name} r3",
    )
    parser.add_argument("rollout", metavar="ROLLOUT", help="its id, such as r3")
    return parser


def _create(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    path = "/rollouts/preview" if arguments.dry_run else "/rollouts"
    return _answer(client.post(path, make_create_body(arguments)))


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
            _pending_words(one) or one["reason"],
        )
        for one in document["rollouts"]
    ]
    header = ("id", "fleet", "release", "state", "reason")
    return Answer(document, format_table(header, rows) if rows else "no rollouts yet")


def _post(verb: str) -> Handler:
    def handle(arguments: argparse.Namespace, client: FleetClient) -> Answer:
        return _answer(client.post(f"/rollouts/{arguments.rollout}/{verb}", {}))

    return handle


def _resume(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {"accept_insufficient_evidence": arguments.accept_insufficient_evidence}
    return _answer(client.post(f"/rollouts/{arguments.rollout}/resume", body))


def _promote(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {"reason": arguments.reason}
    return _answer(client.post(f"/rollouts/{arguments.rollout}/promote", body))


def _boxed(_arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/rollouts/boxed")
    rows: list[tuple[object, ...]] = [
        (one["device"], one["slot"], one["digest"][:12], one["failures"], one["reason"])
        for one in document["boxed"]
    ]
    header = ("device", "slot", "release", "failures", "reason")
    return Answer(document, format_table(header, rows) if rows else "nobody is boxed")


def _release(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.post(f"/rollouts/boxed/{arguments.device}/release", {})
    return Answer(document, f"{arguments.device} may try again")


def _answer(document: dict[str, Any]) -> Answer:
    what = f"{document['model']} release {document['release']}"
    where = f"fleet {document['fleet']}, slot {document['slot']}"
    lines = [f"rollout {document['id']}: {what} to {where}: {document['state']}"]
    if document["where"]:
        lines.append(f"  only where {document['where']}")
    if document["reason"]:
        lines.append(f"  {document['reason']}")
    if document["pending"] is not None:
        lines.append(f"  {_pending_words(document)}")
    if document["accepted_insufficient_evidence"] is not None:
        text = document["accepted_insufficient_evidence"]
        lines.append(f"  insufficient evidence was accepted: {text}")
    plan = {one["number"]: one for one in document.get("plan", ())}
    for phase in document["phases"]:
        lines.append(f"  phase {phase['number']}: {_describe(phase)}")
        lines += _gate_lines(phase["gate"])
        if phase["number"] in plan:
            lines.append(f"    {_plan_words(plan[phase['number']])}")
    for device, one in document.get("devices", {}).items():
        words = ", ".join(filter(None, (one["reason"], one["invariant"])))
        lines.append(f"    {device}: {one['outcome']}{f' ({words})' if words else ''}")
    return Answer(document, "\n".join(lines))


def _describe(phase: dict[str, Any]) -> str:
    who = {
        "canary": f"{phase['amount']} devices first",
        "query": f"devices with {phase['query']}",
        "percent": f"{phase['amount']} % of the devices",
        "all": "all devices",
    }[phase["kind"]]
    gate = phase["gate"]
    words = "" if gate is None else f": {gate['words']}"
    return f"{who}: {phase['state']}{words}"


def _gate_lines(gate: dict[str, Any] | None) -> list[str]:
    """Return the figures of the control cohort, a line each."""
    if gate is None or gate["health"] is None:
        return []
    lines = []
    for one in gate["health"]["comparisons"]:
        figures = ""
        if one["worse_by"] is not None:
            figures = (
                f" worse by {one['worse_by']} (below {one['upper']}, tolerated"
                f" {one['margin']}) {one['unit']},"
            )
        lines.append(
            f"    {one['figure']}:{figures} {one['treated']} devices beside"
            f" {one['control']}: {one['standing']}"
        )
    return lines


def _plan_words(plan: dict[str, Any]) -> str:
    names = plan["devices"][:_SHOWN]
    more = plan["adds"] - len(names)
    listed = ", ".join(names) + (f" and {more} more" if more else "")
    return f"adds {plan['adds']}: {listed}" if names else "adds nobody"


def _pending_words(document: dict[str, Any]) -> str:
    pending = document["pending"]
    if pending is None:
        return ""
    text = f" ({pending['text']})" if pending["text"] else ""
    return (
        f"{pending['action']}{text} waits for a second person; asked by {pending['by']}"
    )
