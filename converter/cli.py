# SPDX-License-Identifier: Apache-2.0
"""The command ``edge-convert``.

Owns errors and exit codes: 0 done, 1 failed, 2 usage, 3 trust refused, 4 quality gate
failed. With ``--json`` exactly one document goes to standard output and everything else
to standard error. Each verb is a module of ``verbs``.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from converter.config import silence_onnxruntime
from converter.verbs import (
    bench,
    build,
    diff,
    explain,
    inspect,
    profiles,
    verify,
)
from converter.verbs.printing import print_json
from edge_contract.errors import EdgeError

_VERBS = (build, inspect, verify, explain, bench, diff, profiles)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    silence_onnxruntime()
    arguments = make_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except EdgeError as error:
        _print_error(error, as_json=arguments.json)
        return error.exit_code
    except KeyboardInterrupt:
        print("edge-convert: interrupted; nothing was written", file=sys.stderr)
        return 1
    return code


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="edge-convert",
        description="Turn a trained model into a verified, reproducible bundle.",
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for one in _VERBS:
        one.add(verbs)
    return parser


def _version() -> str:
    try:
        return f"edge-convert {metadata.version('edgeloop')}"
    except metadata.PackageNotFoundError:
        return "edge-convert (not installed)"


def _print_error(error: EdgeError, *, as_json: bool) -> None:
    print(f"edge-convert: {error}", file=sys.stderr)
    if as_json:
        print_json(
            {
                "error": error.code,
                "message": error.message,
                "next_step": error.next_step,
            }
        )


if __name__ == "__main__":
    sys.exit(main())
