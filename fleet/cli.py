# SPDX-License-Identifier: Apache-2.0
"""The program ``edge-fleet``.

Owns the parser's root, printing answers and errors, and exit codes. The verbs live in
the features' packages.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_contract.errors import EXIT_USAGE, EdgeError
from fleet.client import ServerAddress, open_client, read_address
from fleet.commands import Answer, Register
from fleet.config import StateLayout
from fleet.errors import RemoteError, RequestError

DEFAULT_STATE = "edge-fleet-state"

# Nouns in the order of --help.
GROUPS: tuple[Register, ...] = ()


def make_parser() -> argparse.ArgumentParser:
    """Make the parser with the verbs of all features."""
    parser = argparse.ArgumentParser(
        prog="edge-fleet", description="The server of an Edgeloop fleet."
    )
    groups = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    for register in GROUPS:
        register(groups)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        with open_client(_find_address(arguments)) as client:
            answer: Answer = arguments.handler(arguments, client)
    except EdgeError as error:
        return _print_error(error, as_json=arguments.json)
    if arguments.json:
        print(json.dumps(answer.document, indent=2, sort_keys=True))
    else:
        print(answer.text)
    return answer.exit_code


def _find_address(arguments: argparse.Namespace) -> ServerAddress:
    if arguments.server is None:
        root = Path(arguments.state or DEFAULT_STATE)
        return read_address(StateLayout(root).run)
    if arguments.token_file is None:
        message = "--server: expected --token-file with it, found none"
        raise RequestError(message, next_step="add --token-file FILE")
    token = Path(arguments.token_file).read_text(encoding="utf-8").strip()
    return ServerAddress(url=arguments.server, token=token)


def _print_error(error: EdgeError, *, as_json: bool) -> int:
    remote = isinstance(error, RemoteError)
    code = error.remote_code if isinstance(error, RemoteError) else error.code
    exit_code = error.remote_exit_code if remote else error.exit_code
    if as_json:
        body = {"code": code, "message": error.message, "next_step": error.next_step}
        print(json.dumps({"error": body}, indent=2), file=sys.stderr)
    else:
        print(f"edge-fleet: {error} [{code}]", file=sys.stderr)
    return exit_code or EXIT_USAGE
