# SPDX-License-Identifier: Apache-2.0
"""The options of ``rollout create`` and the request that they make.

Owns their words and the parsing of durations, percentages and maintenance windows; the
server checks everything again.
"""

import argparse
import re
from typing import Any

from fleet.commands import require
from fleet.rollout.request import split_phases

ACCEPT_HELP = (
    "go on although the fleet is too small to show that the release is good; the text"
    " says why and is recorded"
)
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))? )?"
    r"(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)",
    re.ASCII,
)


def add_create_options(create: argparse.ArgumentParser) -> None:
    """Add all options of ``create``."""
    create.add_argument("--model", metavar="NAME", required=True)
    create.add_argument(
        "--release", metavar="N", type=int, help="its number (default: the newest)"
    )
    create.add_argument("--fleet", metavar="FLEET", default="default")
    create.add_argument("--slot", metavar="SLOT", default="main")
    create.add_argument(
        "--where",
        metavar="QUERY",
        default="",
        help="only devices whose tags fit, e.g. 'site=berlin and not hw=pi3'",
    )
    create.add_argument(
        "--draft", action="store_true", help="write it down; `start` begins it"
    )
    create.add_argument(
        "--dry-run",
        action="store_true",
        help="show whom each phase means, keep nothing",
    )
    phases = create.add_mutually_exclusive_group()
    phases.add_argument(
        "--canary",
        metavar="N",
        type=int,
        default=1,
        help="devices of the first phase, before all (default: %(default)s)",
    )
    phases.add_argument(
        "--phases",
        metavar="P,P…",
        help="all phases: counts, queries, percentages, each with its own figures where"
        " wanted, e.g. 60,site=berlin/soak=1d,10%%/sample=200/deadline=2h,all",
    )
    create.add_argument(
        "--accept-insufficient-evidence", metavar="TEXT", help=ACCEPT_HELP
    )
    _add_gate_options(create)
    _add_device_options(create)


def _add_gate_options(create: argparse.ArgumentParser) -> None:
    gate = create.add_argument_group("what a gate asks for")
    for option, metavar, default, text in (
        ("--max-failures", "PERCENT", "5%",
         "the share of failures must be shown to be below this"),
        ("--deadline", "TIME", "1h", "a device that began is late after this"),
        ("--soak", "TIME", "0s", "watch each phase this long after its last device"),
        ("--sample", "N", "1", "devices that a phase is judged on, at least"),
        ("--max-confidence-drop", "POINTS", "2",
         "mean confidence must be shown to fall by less, against the control cohort"),
        ("--max-latency-rise", "PERCENT", "20%",
         "the p95 of latency must be shown to rise by less"),
        ("--max-drift-rise", "POINTS", "15",
         "the share of devices with drift must be shown to rise by less"),
    ):  # fmt: skip
        gate.add_argument(
            option,
            metavar=metavar,
            default=default,
            help=f"{text} (default: {default.replace('%', '%%')})",
        )
    gate.add_argument(
        "--on-halt",
        choices=("stay", "roll-back"),
        default="stay",
        help="what follows a broken invariant (default: %(default)s)",
    )


def _add_device_options(create: argparse.ArgumentParser) -> None:
    device = create.add_argument_group("what the devices are told")
    device.add_argument(
        "--window",
        metavar="'DAYS HH:MM-HH:MM'",
        action="append",
        default=[],
        help="update only then, in the device's time zone, e.g. 'mon-fri 22:00-05:00';"
        " may be repeated",
    )
    device.add_argument("--urgent", action="store_true", help="do not wait for windows")
    device.add_argument(
        "--metered",
        choices=("allow", "defer", "deltas"),
        help="on a metered link: fetch, wait, or fetch deltas only",
    )
    for name, text in (
        ("trial", "a limit of the trial, such as inferences or max_p95_percent"),
        ("shadow", "inferences or seconds beside the old model before the trial"),
    ):
        device.add_argument(
            f"--{name}",
            metavar="KEY=N",
            action="append",
            default=[],
            help=f"{text}; may be repeated",
        )


def make_create_body(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the request that the options make.

    Raises:
        RequestError: An option does not have its form.
    """
    phases = arguments.phases
    canary = [str(arguments.canary)]
    return {
        "model": arguments.model,
        "release": arguments.release,
        "fleet": arguments.fleet,
        "slot": arguments.slot,
        "phases": canary if phases is None else split_phases(phases),
        "where": arguments.where,
        "draft": arguments.draft,
        "failure_percent": _parse_number("--max-failures", arguments.max_failures),
        "deadline_seconds": parse_duration("--deadline", arguments.deadline),
        "soak_seconds": parse_duration("--soak", arguments.soak),
        "sample": _parse_number("--sample", arguments.sample),
        "confidence_points": _parse_number(
            "--max-confidence-drop", arguments.max_confidence_drop
        ),
        "latency_percent": _parse_number(
            "--max-latency-rise", arguments.max_latency_rise
        ),
        "drift_points": _parse_number("--max-drift-rise", arguments.max_drift_rise),
        "on_halt": arguments.on_halt,
        "device_policy": _make_device_policy(arguments),
        "accept_insufficient_evidence": arguments.accept_insufficient_evidence,
    }


def parse_duration(option: str, word: str) -> int:
    """Return seconds.

    Raises:
        RequestError: The word is no duration.

    >>> parse_duration("--soak", "2h")
    7200
    """
    match = _DURATION.fullmatch(word)
    require(
        match,
        f"{option}: expected a duration like 30s, 10m, 2h or 1d, found {word!r}",
        f"write it as in {option} 10m",
    )
    return int(word[:-1]) * _SECONDS[word[-1]]


def parse_window(text: str) -> dict[str, Any]:
    """Return a maintenance window as a rule carries it.

    Raises:
        RequestError: The text is no window.

    >>> parse_window("sat-sun 22:00-05:00")
    {'days': [5, 6], 'start': '22:00', 'end': '05:00'}
    """
    match = _WINDOW.fullmatch(text.lower())
    first = None if match is None else match["first"]
    last = first if match is None or match["last"] is None else match["last"]
    known = all(day in {None, *_DAYS} for day in (first, last))
    require(
        match is not None and known,
        f"--window: expected days and times, found {text!r}",
        "write it as in --window 'mon-fri 22:00-05:00'",
    )
    days = list(range(7))
    if first is not None and last is not None:
        start, end = _DAYS.index(first), _DAYS.index(last)
        days = sorted((start + one) % 7 for one in range((end - start) % 7 + 1))
    times = {} if match is None else {"start": match["start"], "end": match["end"]}
    return {"days": days, **times}


def _make_device_policy(arguments: argparse.Namespace) -> dict[str, Any]:
    policy: dict[str, Any] = {}
    if arguments.window:
        policy["windows"] = [parse_window(one) for one in arguments.window]
    if arguments.urgent:
        policy["urgent"] = True
    if arguments.metered is not None:
        policy["metered"] = arguments.metered
    for name in ("trial", "shadow"):
        words = getattr(arguments, name)
        if words:
            policy[name] = dict(_parse_limit(f"--{name}", word) for word in words)
    return policy


def _parse_limit(option: str, word: str) -> tuple[str, int]:
    key, sign, value = word.partition("=")
    require(
        key and sign,
        f"{option}: expected KEY=N, found {word!r}",
        f"write it as in {option} inferences=500",
    )
    return key, _parse_number(option, value)


def _parse_number(option: str, word: str) -> int:
    digits = word.removesuffix("%")
    require(
        digits.isascii() and digits.isdigit() and len(digits) < 16,
        f"{option}: expected a whole number, found {word!r}",
        f"write it as in {option} 5",
    )
    return int(digits)
