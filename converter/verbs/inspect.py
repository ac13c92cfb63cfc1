# SPDX-License-Identifier: Apache-2.0
"""``edge-convert inspect``: what a bundle holds, or where a model can run."""

import argparse
from pathlib import Path

from converter.verbs.printing import (
    Verbs,
    add_trust_pickle,
    add_verb,
    print_json,
    print_text,
)


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "inspect",
        _run,
        title="show what a bundle holds, or which runtimes and devices a model reaches",
        example="edge-convert inspect watch.bundle --trust builder.pub",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE|MODEL")
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a public key (PEM) that must have signed it; may be repeated",
    )
    add_trust_pickle(parser)


def _run(arguments: argparse.Namespace) -> int:
    from converter.inspect_source import is_source

    if is_source(arguments.bundle):
        return _inspect_source(arguments)
    from converter.inspect_bundle import (
        format_inspection,
        inspect_bundle,
        read_trusted,
    )

    trusted = [read_trusted(path) for path in arguments.trust]
    found = inspect_bundle(arguments.bundle, trusted)
    if arguments.json:
        print_json(found)
    else:
        print_text(format_inspection(found))
    return 0


def _inspect_source(arguments: argparse.Namespace) -> int:
    from converter.inspect_source import format_source, inspect_source

    found = inspect_source(arguments.bundle, trust_pickle=arguments.trust_pickle)
    if arguments.json:
        print_json(found)
    else:
        print_text(format_source(found))
    return 0
