# SPDX-License-Identifier: Apache-2.0
"""The verbs ``pipeline run|show``.

Owns their arguments and texts, and waiting for the end of a run.
"""

import argparse
import time
from typing import Any

from edge_contract.errors import EXIT_FAILED
from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table, require

_POLL_SECONDS = 0.5


def register(groups: Groups) -> None:
    """Add the group ``pipeline``."""
    verbs = add_group(groups, "pipeline", "run programs of fleet.yaml")
    run = add_verb(
        verbs,
        "run",
        _run,
        summary="start a pipeline and wait for its end",
        example="edge-fleet pipeline run retrain --samples 0123456789abcdef",
    )
    run.add_argument("name", metavar="NAME", help="a pipeline of fleet.yaml")
    run.add_argument("--samples", default="", metavar="REQUEST", help="samples to use")
    run.add_argument(
        "--context", action="append", default=[], metavar="KEY=VALUE", help="for it"
    )
    run.add_argument("--detach", action="store_true", help="do not wait for the end")
    show = add_verb(
        verbs,
        "show",
        _show,
        summary="show a run, or the latest ones",
        example="edge-fleet pipeline show 0123456789abcdef",
    )
    show.add_argument("run", nargs="?", metavar="RUN", help="id of a run")


def _run(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    context = {}
    for text in arguments.context:
        key, sign, value = text.partition("=")
        require(sign, f"--context: expected KEY=VALUE, found {text}", "write KEY=VALUE")
        context[key] = value
    body = {"context": context, "samples": arguments.samples}
    document = client.post(f"/pipelines/{arguments.name}/runs", body)
    while document["state"] == "running" and not arguments.detach:
        time.sleep(_POLL_SECONDS)
        document = client.get(f"/runs/{document['id']}")
    return _answer(document)


def _show(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    if arguments.run is not None:
        return _answer(client.get(f"/runs/{arguments.run}"))
    document = client.get("/runs")
    rows: list[tuple[object, ...]] = [
        (one["id"], one["pipeline"], one["state"], one["reason"] or "")
        for one in document["runs"]
    ]
    return Answer(document, format_table(("run", "pipeline", "state", "why"), rows))


def _answer(document: dict[str, Any]) -> Answer:
    lines = [f"run {document['id']} of {document['pipeline']}: {document['state']}"]
    if document["reason"]:
        lines.append(f"{document['reason']}; see {document['log']}")
    lines += [f"model: {path}" for path in document["models"]]
    failed = document["state"] == "failed"
    return Answer(document, "\n".join(lines), EXIT_FAILED if failed else 0)
