# SPDX-License-Identifier: Apache-2.0
"""What verbs print and how they read options: the same everywhere.

Owns the one JSON document on standard output and the kinds of option values. Errors and
exit codes are ``cli``'s.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from converter.errors import ConvertUsageError

_UNITS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h)")


class Verbs(Protocol):
    """What ``ArgumentParser.add_subparsers`` returns, as far as verbs use it."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser:
        """Add a verb."""


def add_verb(
    verbs: Verbs,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    title: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a verb with ``--json`` and an example at the end of its help."""
    parser = verbs.add_parser(
        name,
        help=title,
        description=title[0].upper() + title[1:] + ".",
        epilog=f"example:\n  {example}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one document")
    parser.set_defaults(run=run)
    return parser


def add_trust_pickle(parser: Any) -> None:
    """Add the option that lets a file run its author's code."""
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="read a .joblib or .pkl model, which runs whatever code it holds",
    )


def print_json(document: dict[str, Any]) -> None:
    """Print the one document."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """Print text that ends in one line break."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def names(text: str) -> tuple[str, ...]:
    """Return the parts of ``a,b,c``."""
    return tuple(one.strip() for one in text.split(","))


def share(text: str) -> float:
    """Return ``1%`` or ``0.01`` as 0.01."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        msg = f"expected a share like 1% or 0.01, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def seconds(text: str) -> float:
    """Return a duration like ``60s`` or ``2m`` in seconds.

    >>> seconds("2m"), seconds("90s")
    (120.0, 90.0)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        msg = f"expected a duration like 60s or 2m, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return float(match[1]) * _UNITS[match[2]]


def pair(text: str) -> tuple[float, float]:
    """Return ``LOW,HIGH`` as two numbers."""
    try:
        low, high = (float(one) for one in text.split(","))
    except ValueError:
        msg = f"expected two numbers like 0,255, found {text!r}"
        raise argparse.ArgumentTypeError(msg) from None
    if not low < high:
        msg = f"expected the smaller number first, found {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return low, high


def one_of(first: Any, second: Any, *, flags: str) -> None:
    """Refuse two options that exclude each other.

    Raises:
        ConvertUsageError: Both are given.
    """
    if first and second:
        msg = f"{flags}: expected one of them, found both"
        raise ConvertUsageError(msg, next_step="leave one out")


def parse_scale(text: str | None) -> tuple[str, str] | None:
    """Return ``1/255`` or ``0.5,-1`` as decimal texts of factor and offset.

    Raises:
        ConvertUsageError: Not numbers.

    >>> parse_scale("1/4,-1")
    ('0.25', '-1.0')
    """
    if text is None:
        return None
    factor, _, offset = text.partition(",")
    above, _, below = factor.partition("/")
    try:
        number = float(above) / float(below or "1")
        return repr(number), repr(float(offset or "0"))
    except (ValueError, ZeroDivisionError) as error:
        msg = f"--scale: expected FACTOR or FACTOR,OFFSET, found {text!r}"
        raise ConvertUsageError(msg, next_step="pass for example 1/255") from error
