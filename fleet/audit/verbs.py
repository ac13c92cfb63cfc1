# SPDX-License-Identifier: Apache-2.0
"""The verbs ``audit list|verify``.

Owns their arguments and words.
"""

import argparse
from datetime import UTC, datetime
from typing import Any

from fleet.client import FleetClient
from fleet.commands import Answer, Groups, add_group, add_verb, format_table

_MICROSECONDS = 1_000_000


def register(groups: Groups) -> None:
    """Add the noun ``audit``."""
    verbs = add_group(groups, "audit", "See who did what, and that nobody changed it.")
    listing = add_verb(
        verbs,
        "list",
        _list,
        summary="List entries, the latest first; --json has the gates' figures.",
        example="edge-fleet audit list --subject r3",
    )
    listing.add_argument("--subject", metavar="ID", help="only about this")
    listing.add_argument("--before", metavar="N", type=int, help="only with a lower id")
    listing.add_argument(
        "--limit", metavar="N", type=int, default=50, help="default: %(default)s"
    )
    verify = add_verb(
        verbs,
        "verify",
        _verify,
        summary="Check the chain, and that it still contains a head noted earlier.",
        example="edge-fleet audit verify --head HEAD",
    )
    verify.add_argument(
        "--head", metavar="DIGEST", help="what an earlier run printed, kept elsewhere"
    )


def _list(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get(
        "/audit",
        subject=arguments.subject,
        before=arguments.before,
        limit=arguments.limit,
    )
    rows: list[tuple[object, ...]] = [
        (
            one["id"],
            datetime.fromtimestamp(one["time_us"] / _MICROSECONDS, UTC).isoformat(
                "T", "seconds"
            ),
            one["actor"],
            one["action"],
            one["subject"],
            _shorten(one["detail"]),
        )
        for one in document["entries"]
    ]
    header = ("id", "time", "who", "what", "to", "outcome")
    return Answer(document, format_table(header, rows) if rows else "no entries")


def _verify(arguments: argparse.Namespace, client: FleetClient) -> Answer:
    document = client.get("/audit/verify", head=arguments.head)
    text = f"{document['entries']} entries continue each other; head {document['head']}"
    if arguments.head is None:
        text += (
            "\nkeep the head elsewhere: the next run can show that nothing was cut off"
        )
    return Answer(document, text)


def _shorten(detail: dict[str, Any]) -> str:
    words = (str(detail.get(name) or "") for name in ("state", "reason", "fleet"))
    return ": ".join(filter(None, words))[:90]
