# SPDX-License-Identifier: Apache-2.0
"""``edge-convert bench``: how long model files and bundles take on this host."""

import argparse
from pathlib import Path

from converter.verbs.printing import Verbs, add_verb, print_json, print_text


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "bench",
        _run,
        title="time model files and every variant of bundles in turns on this host",
        example="edge-convert bench model.tflite watch.bundle",
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=40, metavar="N")


def _run(arguments: argparse.Namespace) -> int:
    from converter.timing import format_timings, time_files, to_json

    found = time_files(arguments.files, rounds=max(1, arguments.rounds))
    if arguments.json:
        print_json(to_json(found))
    else:
        print_text(format_timings(found))
    return 0
