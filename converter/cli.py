# SPDX-License-Identifier: Apache-2.0
"""The command ``edge-convert``: build, inspect, profiles.

Owns parsing, printing and exit codes: 0 done, 1 failed, 2 usage, 3 trust refused, 4
quality gate failed. With ``--json`` exactly one document goes to standard output and
everything else to standard error.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from converter.choose import OBJECTIVES
from converter.errors import ConvertUsageError
from converter.request import BuildRequest
from edge_contract.errors import EdgeError

_EXAMPLE = """\
example:
  edge-convert build watch.keras --calibration calibration.npz \\
      --validation validation.npz --hop 64 --sign-key builder.pem -o watch.bundle
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
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
    _add_build(verbs)
    inspect = verbs.add_parser("inspect", help="show what a bundle holds")
    inspect.add_argument("bundle", type=Path, metavar="BUNDLE")
    inspect.add_argument(
        "--trust",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a public key (PEM) that must have signed it; may be repeated",
    )
    inspect.set_defaults(run=_inspect)
    profiles = verbs.add_parser("profiles", help="list the device profiles")
    profiles.set_defaults(run=_profiles)
    for verb in (inspect, profiles):
        verb.add_argument("--json", action="store_true", help="print one document")
    return parser


def _add_build(verbs: Any) -> None:
    build = verbs.add_parser(
        "build",
        help="build a bundle",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = build.add_argument
    add("model", type=Path, metavar="MODEL", help=".keras, .h5, SavedModel, .tflite")
    add("--calibration", type=Path, required=True, metavar="DATA", help=".npz file")
    add("--validation", type=Path, metavar="DATA", help="default: the calibration file")
    add("-o", "--output", type=Path, required=True, metavar="OUT.bundle")
    add("--profile", type=_names, default=(), metavar="P[,P…]", help="device profiles")
    add("--max-drop", type=_share, default=0.01, metavar="1%", help="default: 1%%")
    add("--metric", choices=("top1", "agreement"), help="default: top1 with labels")
    add("--objective", choices=OBJECTIVES, default="latency", help="default: latency")
    add("--observe", choices=("series", "vector"), help="default: from the input shape")
    add("--hop", type=int, metavar="N", help="new rows between two frames of a series")
    add("--labels", type=_names, default=(), metavar="a,b,c", help="class names")
    add("--labels-file", type=Path, metavar="FILE", help="class names, one a line")
    add("--features", type=_names, default=(), metavar="a,b,c", help="feature names")
    add("--name", metavar="N", help="the model's name; default: the file's stem")
    add("--sign-key", type=Path, metavar="FILE", help="Ed25519 private key (PEM)")
    add("--json", action="store_true", help="print one document")
    build.set_defaults(run=_build)


def _build(arguments: argparse.Namespace) -> int:
    # Imported here: --help and inspect must not pay for the quantizer.
    from converter.pipeline import build
    from converter.report import format_report

    request = BuildRequest(
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
        name=arguments.name,
        sign_key=arguments.sign_key,
    )
    with Console(stderr=True).status("starting") as status:
        report = build(request, status.update)
    if arguments.json:
        _print_json(report.to_json())
    else:
        print(format_report(report, colour=sys.stdout.isatty()), end="")
    return 0


def _labels(arguments: argparse.Namespace) -> tuple[str, ...]:
    if arguments.labels_file is None:
        asked: tuple[str, ...] = arguments.labels
        return asked
    if arguments.labels:
        msg = "--labels and --labels-file: expected one of them, found both"
        raise ConvertUsageError(msg, next_step="leave one out")
    try:
        text = arguments.labels_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"--labels-file {arguments.labels_file}: cannot be read: {error}"
        raise ConvertUsageError(msg, next_step="check the path") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _inspect(arguments: argparse.Namespace) -> int:
    from converter.inspect_bundle import (
        format_inspection,
        inspect_bundle,
        read_trusted,
    )

    trusted = [read_trusted(path) for path in arguments.trust]
    found = inspect_bundle(arguments.bundle, trusted)
    if arguments.json:
        _print_json(found)
    else:
        print(format_inspection(found))
    return 0


def _profiles(arguments: argparse.Namespace) -> int:
    from converter.profiles import known_profiles, load_profile

    found = [asdict(load_profile(name)) for name in known_profiles()]
    if arguments.json:
        _print_json({"profiles": found})
    else:
        for one in found:
            print(f"{one['name']:14} {one['machine']:8} {one['title']}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(","))


def _share(text: str) -> float:
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text)
    except ValueError:
        msg = f"expected a share like 1% or 0.01, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def _version() -> str:
    try:
        return f"edge-convert {metadata.version('edgeloop')}"
    except metadata.PackageNotFoundError:
        return "edge-convert (not installed)"


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _print_error(error: EdgeError, *, as_json: bool) -> None:
    print(f"edge-convert: {error}", file=sys.stderr)
    if as_json:
        _print_json(
            {
                "error": error.code,
                "message": error.message,
                "next_step": error.next_step,
            }
        )


if __name__ == "__main__":
    sys.exit(main())
