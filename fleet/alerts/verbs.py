# SPDX-License-Identifier: Apache-2.0
"""The verbs ``alert list|show|ack|note|mute|unmute``.

Owns their arguments and texts; the sentences come from the server.
"""

import argparse
from datetime import UTC, datetime
from typing import Any

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table


def register(groups: Groups) -> None:
    """Add the group ``alert``."""
    verbs = add_group(groups, "alert", "see what needs a person, and who was told")
    listing = add_verb(
        verbs,
        "list",
        _list,
        summary="list open alerts",
        example="edge-fleet alert list --closed",
    )
    listing.add_argument("--fleet", help="only this fleet")
    listing.add_argument("--closed", action="store_true", help="closed ones as well")
    show = add_verb(
        verbs,
        "show",
        _show,
        summary="show one alert, its notes, and how its delivery went",
        example="edge-fleet alert show 12",
    )
    show.add_argument("id", metavar="ALERT", type=int, help="number of the alert")
    ack = add_verb(
        verbs,
        "ack",
        _ack,
        summary="say that an alert has been seen",
        example='edge-fleet alert ack 12 --note "a technician is on the way"',
    )
    ack.add_argument("id", metavar="ALERT", type=int, help="number of the alert")
    ack.add_argument("--note", default="", help="kept with the alert")
    note = add_verb(
        verbs,
        "note",
        _note,
        summary="write down what is known about an alert",
        example='edge-fleet alert note 12 "the fan was dusty"',
    )
    note.add_argument("id", metavar="ALERT", type=int, help="number of the alert")
    note.add_argument("text", metavar="TEXT")
    mute = add_verb(
        verbs,
        "mute",
        _mute,
        summary="tell nobody of some alerts for some time; they open all the same",
        example="edge-fleet alert mute watch-5 --hours 24 --reason maintenance",
    )
    _add_subject(mute)
    mute.add_argument("--hours", type=int, default=24, help="for how long")
    mute.add_argument("--reason", required=True, help="kept with the mute")
    unmute = add_verb(
        verbs,
        "unmute",
        _unmute,
        summary="end a mute; what is open and was not told is told then",
        example="edge-fleet alert unmute watch-5",
    )
    _add_subject(unmute)


def _add_subject(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subject",
        metavar="SUBJECT",
        nargs="?",
        default="*",
        help="a device, or another subject that `alert list` shows (default: any)",
    )
    parser.add_argument("--rule", default="*", help="only this rule")
    parser.add_argument("--fleet", default="default", help="the fleet, or *")


def _list(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    closed = "true" if arguments.closed else None
    document = client.get("/alerts", fleet=arguments.fleet, closed=closed)
    rows: list[tuple[object, ...]] = [
        (
            one["id"],
            one["level"],
            _time_text(one["opened_us"]),
            one["rule"],
            one["title"],
            _state(one),
        )
        for one in document["alerts"]
    ]
    header = ("alert", "level", "since", "rule", "what", "state")
    lines = [format_table(header, rows) if rows else "Nothing needs you."]
    lines += [
        f"muted until {_time_text(one['until_us'])}: {one['rule']} {one['subject']} "
        f"({one['reason']})"
        for one in document["mutes"]
    ]
    return Answer(document, "\n".join(lines))


def _show(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    return _answer(client.get(f"/alerts/{arguments.id}"))


def _ack(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {"note": arguments.note}
    return _answer(client.post(f"/alerts/{arguments.id}/ack", body))


def _note(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {"note": arguments.text}
    return _answer(client.post(f"/alerts/{arguments.id}/notes", body))


def _mute(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {
        **_subject(arguments),
        "seconds": arguments.hours * 3600,
        "reason": arguments.reason,
    }
    document = client.post("/alerts/mutes", body)
    text = (
        f"{document['rule']} {document['subject']}: nobody is told for "
        f"{arguments.hours} hours"
    )
    return Answer(document, text)


def _unmute(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.post("/alerts/unmute", _subject(arguments))
    return Answer(document, f"{document['rule']} {document['subject']}: told again")


def _subject(arguments: argparse.Namespace) -> dict[str, str]:
    names = ("fleet", "rule", "subject")
    return {name: getattr(arguments, name) for name in names}


def _answer(document: dict[str, Any]) -> Answer:
    lines = [
        f"alert {document['id']}, {document['level']}: {document['title']}",
        f"rule {document['rule']} of fleet {document['fleet']}",
        f"open since {_time_text(document['opened_us'])}, {_state(document)}",
        f"next: {document['next_step']}",
    ]
    lines += [
        f"{_time_text(one['time_us'])} {one['author']}: {one['text']}"
        for one in document["notes"]
    ]
    lines += [
        f"{one['channel']}, {one['event']}: {_delivery(one)}"
        for one in document["deliveries"]
    ]
    return Answer(document, "\n".join(lines))


def _delivery(one: dict[str, Any]) -> str:
    if one["done_us"] is not None:
        return f"{one['outcome']} {_time_text(one['done_us'])}"
    if one["attempts"]:
        again = _time_text(one["next_us"])
        return f"{one['attempts']} attempts, again {again}: {one['error']}"
    return "waits"


def _state(one: dict[str, Any]) -> str:
    if one["closed_us"] is not None:
        return f"closed: {one['close_reason']}"
    return f"seen by {one['acked_by']}" if one["acked_by"] else "open"


def _time_text(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us / 1_000_000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")
