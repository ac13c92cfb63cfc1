# SPDX-License-Identifier: Apache-2.0
"""``edge-convert diff``: what is different between two bundles."""

import argparse
from pathlib import Path

from converter.verbs.printing import Verbs, add_verb, print_json, print_text


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "diff",
        _run,
        title="show what is different between two bundles (exit 1 where anything is)",
        example="edge-convert diff old.bundle new.bundle",
    )
    parser.add_argument("first", type=Path, metavar="A.bundle")
    parser.add_argument("second", type=Path, metavar="B.bundle")


def _run(arguments: argparse.Namespace) -> int:
    from converter.diff import diff_bundles, format_differences, to_json

    found = diff_bundles(arguments.first, arguments.second)
    if arguments.json:
        print_json(to_json(found))
    else:
        print_text(format_differences(found))
    return 1 if found else 0
