# SPDX-License-Identifier: Apache-2.0
"""``edge-convert build``: the whole pipeline."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from converter.choose import OBJECTIVES
from converter.errors import ConvertUsageError
from converter.request import BuildRequest
from converter.verbs import printing
from converter.verbs.printing import (
    Verbs,
    add_trust_pickle,
    add_verb,
    one_of,
    print_json,
)
from converter.verbs.steps import add_pre, read_post, read_pre

_EXAMPLE = """\
edge-convert build watch.keras --calibration calibration.npz \\
      --validation validation.npz --hop 64 --profile aarch64-a72,armv7l-tflite214 \\
      --sign-key builder.pem -o watch.bundle"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = add_verb(
        verbs,
        "build",
        _run,
        title="search the best variant for each device and build a bundle",
        example=_EXAMPLE,
    )
    add_ = parser.add_argument
    add_("model", type=Path, metavar="MODEL", help="see docs/how-to for the kinds")
    add_("-o", "--output", type=Path, required=True, metavar="OUT.bundle")
    add_("--report", type=Path, metavar="FILE.html", help="default: OUT.bundle.html")
    _add_data(parser)
    _add_search(parser)
    names = parser.add_argument_group("names and trust")
    names.add_argument("--name", metavar="N", help="default: the file's stem")
    names.add_argument("--labels", type=printing.names, default=(), metavar="a,b,c")
    names.add_argument("--labels-file", type=Path, metavar="FILE", help="one a line")
    names.add_argument("--features", type=printing.names, default=(), metavar="a,b,c")
    names.add_argument(
        "--categorical",
        type=printing.names,
        default=(),
        metavar="a,b",
        help="features whose values are names: up to 15 are counted each, and the rest",
    )
    names.add_argument(
        "--sign-key", type=Path, metavar="FILE", help="Ed25519 private key (PEM)"
    )
    add_trust_pickle(names)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data (docs/reference/data-files.md)")
    add = data.add_argument
    add("--calibration", required=True, metavar="DATA", help="file or module:function")
    add("--validation", metavar="DATA", help="default: the calibration data")
    add("--group", metavar="FIELD", help="what one device sees; default: group")
    add("--hop", type=int, metavar="N", help="new rows between two frames of a series")
    add(
        "--observe",
        choices=("series", "vector", "image", "audio", "embedding"),
        help="default: from the input's shape",
    )
    add(
        "--task",
        choices=("classification", "regression"),
        help="default: from the output and the labels",
    )
    add_pre(data)
    add(
        "--post",
        action="append",
        default=[],
        metavar="'STEP KEY=VALUE …'",
        help="a step after what is observed: smoothing, threshold, top",
    )
    add(
        "--value-range",
        type=printing.pair,
        metavar="LOW,HIGH",
        help="black and white, or full scale, before the steps; default: from them",
    )
    add(
        "--input-range",
        type=printing.pair,
        metavar="LOW,HIGH",
        help="refuse data outside of what the model was trained on (write"
        " --input-range=-1,1 where LOW is negative)",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    search = parser.add_argument_group("search")
    add = search.add_argument
    add("--profile", type=printing.names, default=(), metavar="P[,P…]")
    add("--max-drop", type=printing.share, default=0.01, metavar="1%%")
    add(
        "--metric",
        metavar="M",
        help="top1, auc, f1, rmse, agreement or FILE.py:FUNCTION;"
        " default: by the task and the labels",
    )
    add("--objective", choices=OBJECTIVES, default="latency", help="default: latency")
    add("--budget", type=printing.seconds, default=60.0, metavar="60s")
    add(
        "--require-quantized",
        action="store_true",
        help="fail (exit 4) when no quantized variant is within --max-drop",
    )
    add(
        "--no-device-check",
        action="store_true",
        help="do not run variants on tflite-runtime 2.14 for devices that have it",
    )
    add(
        "--like",
        type=Path,
        metavar="OLD.bundle",
        help="keep the recipes, scales and zero points of an earlier bundle, so that"
        " an update from it is small",
    )
    add("--all", action="store_true", help="print every candidate")


def _run(arguments: argparse.Namespace) -> int:
    # Imported here: --help and inspect must not pay for the quantizer.
    from converter import page
    from converter.pack import check_target
    from converter.pipeline import build
    from converter.report import format_report

    request = _request(arguments)
    target = arguments.report or page.default_path(request.output)
    for one in (request.output, target):
        check_target(one)
    with Console(stderr=True).status("starting") as status:
        report = build(request, status.update)
    page.write_page(target, report)
    if arguments.json:
        print_json(report.to_json())
    else:
        text = format_report(
            report, colour=sys.stdout.isatty(), shows_all=arguments.all
        )
        printing.print_text(text)
    return 0


def _request(arguments: argparse.Namespace) -> BuildRequest:
    return BuildRequest(
        model=arguments.model,
        calibration=arguments.calibration,
        validation=arguments.validation,
        output=arguments.output,
        profiles=arguments.profile,
        max_drop=arguments.max_drop,
        metric=arguments.metric,
        objective=arguments.objective,
        observe=arguments.observe,
        hop=arguments.hop,
        labels=_labels(arguments),
        features=arguments.features,
        categorical=arguments.categorical,
        name=arguments.name,
        sign_key=arguments.sign_key,
        budget_seconds=arguments.budget,
        require_quantized=arguments.require_quantized,
        device_check=not arguments.no_device_check,
        task=arguments.task,
        group=arguments.group,
        pre=read_pre(arguments),
        post=read_post(arguments.post),
        value_range=arguments.value_range,
        input_range=arguments.input_range,
        like=arguments.like,
        trust_pickle=arguments.trust_pickle,
    )


def _labels(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.labels_file is None:
        asked: tuple[str, ...] = arguments.labels
        return asked
    one_of(arguments.labels, arguments.labels_file, flags="--labels and --labels-file")
    try:
        text = arguments.labels_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"--labels-file {arguments.labels_file}: cannot be read: {error}"
        raise ConvertUsageError(msg, next_step="check the path") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
