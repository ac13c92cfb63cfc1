# SPDX-License-Identifier: Apache-2.0
"""``edge-convert verify``: whether one model computes what another one does."""

import argparse
from pathlib import Path

from converter.verbs.printing import (
    Verbs,
    add_trust_pickle,
    add_verb,
    print_json,
    print_text,
)
from edge_contract.errors import EXIT_GATE


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "verify",
        _run,
        title="compare a model file or a bundle with the model that it was made from",
        example="edge-convert verify model.tflite --against model.h5 --data inputs.npz",
    )
    parser.add_argument("model", type=Path, metavar="A", help="what to verify")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="B",
        help="the source model; without it the file alone is looked at",
    )
    parser.add_argument("--data", type=Path, metavar="FILE.npz", help="frames x")
    parser.add_argument(
        "--min-sqnr",
        type=float,
        metavar="DB",
        help="default: 80 for a float file, 20 for a quantized one",
    )
    add_trust_pickle(parser)


def _run(arguments: argparse.Namespace) -> int:
    from converter.verify import format_verification, verify

    found = verify(
        arguments.model,
        arguments.against,
        data=arguments.data,
        min_sqnr_db=arguments.min_sqnr,
        trust_pickle=arguments.trust_pickle,
    )
    if arguments.json:
        print_json({"results": [one.to_json() for one in found]})
    else:
        print_text("\n".join(format_verification(one) for one in found))
    return 0 if all(one.ok for one in found) else EXIT_GATE
