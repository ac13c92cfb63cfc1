# SPDX-License-Identifier: Apache-2.0
"""How a feature contributes verbs to the command line.

Owns the shape of a verb: its parser, and a handler that turns arguments and a client
into an ``Answer``. Only ``cli`` prints and exits.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from edge_contract.errors import EdgeError
from fleet.client import FleetClient
from fleet.config import StateLayout
from fleet.errors import RequestError

# argparse gives the type of ``add_subparsers`` no public name.
Groups: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb has to say.

    Args:
        document: Printed as JSON with ``--json``.
        text: Printed without it.
        exit_code: The program's exit code.
    """

    document: Any
    text: str
    exit_code: int = 0


Handler: TypeAlias = Callable[[argparse.Namespace, FleetClient], Answer]
StateHandler: TypeAlias = Callable[[argparse.Namespace, StateLayout], Answer]
Register: TypeAlias = Callable[[Groups], None]


def add_group(groups: Groups, name: str, summary: str) -> Groups:
    """Add a noun such as ``device`` and return where its verbs go."""
    parser = groups.add_parser(name, help=summary, description=summary)
    verbs: Groups = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    return verbs


def add_verb(
    verbs: Groups, name: str, handler: Handler, *, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a verb that talks to the server; return its parser for more arguments."""
    parser = _add_parser(verbs, name, summary, example)
    parser.add_argument(
        "--socket", metavar="FILE", help="a server's socket: it knows you by name"
    )
    parser.add_argument("--server", metavar="URL", help="address of a server elsewhere")
    parser.add_argument(
        "--token-file", metavar="FILE", help="file with the token for --server"
    )
    parser.set_defaults(handler=handler)
    return parser


def add_state_verb(
    verbs: Groups, name: str, handler: StateHandler, *, summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a verb that works on a state folder, with no server running on it."""
    parser = _add_parser(verbs, name, summary, example)
    parser.set_defaults(state_handler=handler)
    return parser


def _add_parser(
    verbs: Groups, name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", metavar="DIR", help="state folder of the server")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def format_table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Lay ``rows`` out in columns under ``header``.

    >>> print(format_table(("id", "state"), [("d1", "ok"), ("device-2", "gone")]))
    id        state
    d1        ok
    device-2  gone
    """
    cells = [header, *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def require(condition: object, message: str, next_step: str) -> None:
    """Raise a usage error unless ``condition`` holds."""
    if not condition:
        error: EdgeError = RequestError(message, next_step=next_step)
        raise error
