# SPDX-License-Identifier: Apache-2.0
"""Steps on the command line: ``--pre``, ``--post`` and the shorthand ``--scale``.

Owns the syntax: the step's name, then its parameters as KEY=VALUE, with blanks between;
a value is a decimal number, a fraction, a word, or several with commas between. What
steps there are, and their parameters, is ``edge_contract.steps``.
"""

import argparse
from collections.abc import Callable, Sequence

from converter.errors import ConvertUsageError
from converter.verbs.printing import one_of, parse_scale
from edge_contract.errors import StepError
from edge_contract.steps import DecisionRule, StepSpec, check_pre

Steps = tuple[dict[str, str], ...]


def add_pre(group: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Add ``--pre`` and ``--scale``."""
    group.add_argument(
        "--pre",
        action="append",
        default=[],
        metavar="'STEP KEY=VALUE …'",
        help="a step before the model, on the device too; several in their order",
    )
    group.add_argument(
        "--scale",
        metavar="FACTOR[,OFFSET]",
        help="short for --pre 'scale factor=FACTOR offset=OFFSET'",
    )


def read_pre(arguments: argparse.Namespace) -> Steps:
    """Return the steps before the model.

    Raises:
        ConvertUsageError: Not of our syntax, or no steps that there are.
    """
    one_of(arguments.pre, arguments.scale, flags="--pre and --scale")
    scale = parse_scale(arguments.scale)
    if scale is not None:
        return ({"step": "scale", "factor": scale[0], "offset": scale[1]},)
    return _read("--pre", arguments.pre, check_pre)


def read_post(texts: Sequence[str]) -> Steps:
    """Return the steps after observation.

    Raises:
        ConvertUsageError: Not of our syntax, or no steps that there are.
    """
    return _read("--post", texts, DecisionRule.parse)


def parse_step(text: str) -> dict[str, str]:
    """Return the step that a text names.

    Raises:
        ValueError: Not of our syntax.
        ZeroDivisionError: A fraction of zero.

    >>> parse_step("scale factor=1/4 offset=-1")
    {'step': 'scale', 'factor': '0.25', 'offset': '-1'}
    """
    name, *pairs = text.split() or [""]
    step = {"step": name}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (key and sign and value) or key in step:
            msg = f"expected KEY=VALUE once, found {pair!r}"
            raise ValueError(msg)
        step[key] = ",".join(_decimal(one) for one in value.split(","))
    return step


def _decimal(text: str) -> str:
    above, sign, below = text.partition("/")
    return repr(float(above) / float(below)) if sign else text


def _read(
    flag: str, texts: Sequence[str], check: Callable[[Sequence[StepSpec]], object]
) -> Steps:
    try:
        steps = tuple(parse_step(one) for one in texts)
        check(steps)
    except (ValueError, ZeroDivisionError, StepError) as error:
        msg = f"{flag}: {error}"
        raise ConvertUsageError(
            msg, next_step="see docs/reference/steps.md for the steps"
        ) from error
    return steps
