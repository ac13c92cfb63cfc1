# SPDX-License-Identifier: Apache-2.0
"""The verbs ``drift list|show|ack|mute|labels|quarantine``.

Owns their arguments and texts; the sentences come from the server.
"""

import argparse
import math
from typing import Any

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table


def register(groups: Groups) -> None:
    """Add the group ``drift``."""
    verbs = add_group(groups, "drift", "see which devices have drifted, and how")
    listing = add_verb(
        verbs,
        "list",
        _list,
        summary="list open verdicts and all devices",
        example="edge-fleet drift list --json",
    )
    listing.add_argument("--fleet", help="only this fleet")
    show = add_verb(
        verbs,
        "show",
        _show,
        summary="show one device's features, verdicts and histograms",
        example="edge-fleet drift show watch-1",
    )
    show.add_argument("id", metavar="ID", help="device id")
    ack = add_verb(
        verbs,
        "ack",
        _ack,
        summary="say that a verdict has been seen",
        example="edge-fleet drift ack 12 --relearn",
    )
    ack.add_argument("id", metavar="VERDICT", type=int, help="number of the verdict")
    ack.add_argument(
        "--relearn",
        action="store_true",
        help="close it and let the device learn its level anew",
    )
    mute = add_verb(
        verbs,
        "mute",
        _mute,
        summary="open no verdict on a device, tag=value or the world for some time",
        example="edge-fleet drift mute watch-5 --hours 24 --reason maintenance",
    )
    mute.add_argument("subject", metavar="SUBJECT")
    mute.add_argument("--hours", type=int, default=24, help="for how long")
    mute.add_argument("--reason", required=True, help="kept with the mute")
    mute.add_argument("--fleet", default="default", help="the fleet of the subject")

    _add_acts(verbs)


def _add_acts(verbs: Groups) -> None:
    labels = add_verb(
        verbs,
        "labels",
        _labels,
        summary="ask whoever labels at a device for labels",
        example="edge-fleet drift labels watch-5 --frames 50 --reason concept",
    )
    labels.add_argument("id", metavar="ID", help="device id")
    labels.add_argument(
        "--select",
        choices=("near-threshold", "novelty", "random"),
        default="near-threshold",
        help="which answers are to be labelled (default: near-threshold)",
    )
    labels.add_argument("--frames", type=int, default=100, help="how many answers")
    labels.add_argument("--hours", type=int, default=24, help="for how long")
    quarantine = add_verb(
        verbs,
        "quarantine",
        _quarantine,
        summary="have a device mark its results as not to be relied on",
        example="edge-fleet drift quarantine watch-5 --reason 'worn on the left'",
    )
    quarantine.add_argument("id", metavar="ID", help="device id")
    quarantine.add_argument("--off", action="store_true", help="end it")
    for parser in (labels, quarantine):
        parser.add_argument("--slot", default="", help="slot (default: its first)")
        parser.add_argument("--reason", required=True, help="told to the device")


def _list(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/drift", fleet=arguments.fleet)
    rows: list[tuple[object, ...]] = [
        (
            one["device"],
            one["status"],
            one["windows"],
            one["own_history_units"],
            *_largest(one["features"]),
        )
        for one in document["devices"]
    ]
    header = ("device", "status", "windows", "own units", "feature", "mean shift")
    lines = [
        f"{one['id']} {one['kind']}: {one['summary']}"
        + (f" (seen by {one['acked_by']})" if one["acked_by"] else "")
        for one in document["verdicts"]
    ] or ["No open verdict."]
    lines += ["", format_table(header, rows), "", document["scope"]]
    return Answer(document, "\n".join(lines))


def _show(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get(f"/drift/{arguments.id}")
    lines = [
        f"{document['device']}: {document['status']}, {document['windows']} windows"
    ]
    for one in document["verdicts"]:
        state = "open" if one["closed_us"] is None else f"closed: {one['close_reason']}"
        lines.append(f"verdict {one['id']} ({one['kind']}, {state}): {one['summary']}")
        lines += [f"  to do: {command}" for command in one["commands"]]
    accuracy = document["accuracy"]
    if accuracy is not None:
        lines.append(
            f"estimated accuracy {accuracy['cbpe']:.1%} (CBPE), {accuracy['atc']:.1%} "
            f"(ATC), {accuracy['reference']:.1%} on the reference"
        )
    rows: list[tuple[object, ...]] = [
        (
            one["name"],
            f"{one['mean_shift_sd']:+.2f} sd",
            f"x {math.exp(one['log_spread_ratio']):.2f}",
            f"{one['evidence']:.3g}",
        )
        for one in document["features"]
    ]
    if rows:
        header = ("feature", "mean", "spread", "evidence")
        lines += ["", format_table(header, rows)]
    return Answer(document, "\n".join(lines))


def _ack(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {"relearn": arguments.relearn}
    document = client.post(f"/drift/verdicts/{arguments.id}/ack", body)
    text = f"verdict {document['id']} on {document['subject']}: seen"
    if document["closed_us"] is not None:
        text += f"; closed: {document['close_reason']}"
    return Answer(document, text)


def _mute(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {
        "subject": arguments.subject,
        "fleet": arguments.fleet,
        "seconds": arguments.hours * 3600,
        "reason": arguments.reason,
    }
    document = client.post("/drift/mutes", body)
    text = f"{document['subject']}: no verdict for {arguments.hours} hours"
    return Answer(document, text)


def _labels(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {
        "slot": arguments.slot,
        "select": arguments.select,
        "frames": arguments.frames,
        "seconds": arguments.hours * 3600,
        "reason": arguments.reason,
    }
    document = client.post(f"/drift/{arguments.id}/labels", body)
    return _asked(document, f"labels for {arguments.frames} answers")


def _quarantine(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    body = {
        "slot": arguments.slot,
        "on": not arguments.off,
        "reason": arguments.reason,
    }
    document = client.post(f"/drift/{arguments.id}/quarantine", body)
    return _asked(document, "quarantine off" if arguments.off else "quarantine on")


def _asked(document: dict[str, Any], what: str) -> Answer:
    device = document["device"]
    text = (
        f"{device} is asked: {what}; its answer is in edge-fleet device show {device}"
    )
    return Answer(document, text)


def _largest(features: list[dict[str, Any]]) -> tuple[object, ...]:
    if not features:
        return ("-", "-")
    most = max(features, key=lambda one: abs(one["mean_shift_sd"]))
    return (most["name"], f"{most['mean_shift_sd']:+.2f} sd")
