# SPDX-License-Identifier: Apache-2.0
"""``edge-convert explain``: what quantization does to each operator."""

import argparse
from pathlib import Path

from converter.errors import ConvertCompatError
from converter.loaders import Source
from converter.model import RUNTIMES, Runtime
from converter.verbs.printing import (
    Verbs,
    add_trust_pickle,
    add_verb,
    print_json,
    print_text,
)
from converter.verbs.steps import add_pre, read_pre


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "explain",
        _run,
        title="show dtype, error, time and bytes of each operator",
        example="edge-convert explain model.keras --calibration calibration.npz",
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--calibration", required=True, metavar="DATA")
    parser.add_argument("--hop", type=int, metavar="N")
    parser.add_argument(
        "--runtime",
        choices=("litert", "onnxruntime"),
        help="whose variant; the likeliest that the source reaches if left out",
    )
    add_pre(parser)
    add_trust_pickle(parser)


def _run(arguments: argparse.Namespace) -> int:
    from converter.data.dataset import open_dataset
    from converter.data.rule import frame_rule
    from converter.explain import explain, format_explanation
    from converter.exports import export_model
    from converter.loaders import open_source

    trust = arguments.trust_pickle
    with open_source(arguments.model, trust_pickle=trust) as source:
        model = export_model(source, _choose(source, arguments.runtime))
    rule = frame_rule(model.input, None, arguments.hop, pre=read_pre(arguments))
    found = explain(model, open_dataset(arguments.calibration, rule).frames)
    if arguments.json:
        print_json(found.to_json())
    else:
        print_text(format_explanation(found))
    return 0


def _choose(source: Source, asked: Runtime | None) -> Runtime:
    """Return whose variant is explained.

    Raises:
        ConvertCompatError: The source does not reach it.
    """
    wanted: tuple[Runtime, ...] = RUNTIMES if asked is None else (asked,)
    for one in wanted:
        if not source.why_not(one):
            return one
    reasons = "; ".join(f"{one}: {source.why_not(one)}" for one in wanted)
    msg = f"{source.name}: {reasons}"
    raise ConvertCompatError(msg, next_step="leave --runtime out, or change the model")
