# SPDX-License-Identifier: Apache-2.0
"""The policy of an update: when it may run, over which link, and how it is tried out.

Owns the form of ``policy`` in a rule of the desired document (docs/spec/updates.md,
"Policy"): what a server may say, and what a device reads. It decides nothing: when a
window is open and whether a release has proved itself is the device's matter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from edge_contract.errors import PolicyError

Metered = Literal["allow", "defer", "deltas"]
METERED: Final[tuple[Metered, ...]] = ("allow", "defer", "deltas")
POLICY_KEYS: Final = ("windows", "urgent", "metered", "trial", "shadow")
MAX_WINDOWS: Final = 32
MINUTES_A_DAY: Final = 1440
_MAX_NUMBER: Final = 2**53
_LAST_DAY: Final = 6
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """When an update may run, in the device's own time zone.

    Attributes:
        days: On which it begins, Monday 0.
        start: Minutes after midnight.
        end: The same; not after ``start``: on the day after.
    """

    days: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TrialPolicy:
    """What a trial asks of a release; None: what the device is told, or its default.

    Attributes:
        inferences: That prove it.
        seconds: After which it ends, whatever came.
        max_p95_percent: Of the p95 of the release before it.
        max_memory_bytes: That the process may grow by.
        min_confidence_percent: Of the mean confidence of the release before it.
        max_disagreement_percent: Of frames on which both were asked.
    """

    inferences: int | None = None
    seconds: int | None = None
    max_p95_percent: int | None = None
    max_memory_bytes: int | None = None
    min_confidence_percent: int | None = None
    max_disagreement_percent: int | None = None


@dataclass(frozen=True, slots=True)
class ShadowPolicy:
    """How long a release runs in the shadow of the one before it: what comes first.

    Attributes:
        inferences: That both answered.
        seconds: Since it began.
    """

    inferences: int
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """What a rule says of how it is followed; None: the device decides.

    Attributes:
        windows: When it may run.
        urgent: Whether it runs outside of them, too.
        metered: What a link that costs money allows.
        trial: What proves it.
        shadow: How long it runs unseen before its trial; None: not at all.
    """

    windows: tuple[MaintenanceWindow, ...] | None = None
    urgent: bool = False
    metered: Metered | None = None
    trial: TrialPolicy = field(default_factory=TrialPolicy)
    shadow: ShadowPolicy | None = None


def parse_policy(wire: Any) -> UpdatePolicy:
    """Read a policy; unknown keys are ignored.

    Args:
        wire: The value of ``policy``, or None where a rule has none.

    Raises:
        PolicyError: A known key has a value out of its kind.
    """
    if wire is None:
        return UpdatePolicy()
    _check_map("policy", wire)
    windows = wire.get("windows")
    if windows is not None and type(windows) is not list:
        raise _wrong("windows", "a list", windows)
    if windows is not None and len(windows) > MAX_WINDOWS:
        raise _wrong("windows", f"at most {MAX_WINDOWS}", len(windows))
    return UpdatePolicy(
        windows=None if windows is None else tuple(map(parse_window, windows)),
        urgent=_flag(wire, "urgent"),
        metered=_metered(wire.get("metered")),
        trial=_trial(wire.get("trial")),
        shadow=_shadow(wire.get("shadow")),
    )


def parse_window(wire: Any) -> MaintenanceWindow:
    """Read one maintenance window.

    >>> parse_window({"days": [5, 6], "start": "22:00", "end": "06:30"})
    MaintenanceWindow(days=(5, 6), start=1320, end=390)

    Raises:
        PolicyError: Not what a window is.
    """
    _check_map("windows", wire)
    days = wire.get("days")
    is_week = type(days) is list and 0 < len(days) <= _LAST_DAY + 1
    if not is_week or not all(
        type(one) is int and 0 <= one <= _LAST_DAY for one in days
    ):
        raise _wrong("windows.days", "days from 0, Monday, to 6", days)
    return MaintenanceWindow(
        tuple(sorted(set(days))),
        _minutes("windows.start", wire.get("start")),
        _minutes("windows.end", wire.get("end")),
    )


def _trial(wire: Any) -> TrialPolicy:
    if wire is None:
        return TrialPolicy()
    _check_map("trial", wire)
    return TrialPolicy(
        inferences=_number(wire, "inferences", least=1),
        seconds=_number(wire, "seconds", least=1),
        max_p95_percent=_number(wire, "max_p95_percent", least=1),
        max_memory_bytes=_number(wire, "max_memory_bytes", least=1),
        min_confidence_percent=_number(wire, "min_confidence_percent", most=100),
        max_disagreement_percent=_number(wire, "max_disagreement_percent", most=100),
    )


def _shadow(wire: Any) -> ShadowPolicy | None:
    if wire is None:
        return None
    _check_map("shadow", wire)
    inferences = _number(wire, "inferences", least=1)
    if inferences is None:
        raise _wrong("inferences", "a whole number from 1 on", inferences)
    return ShadowPolicy(inferences, _number(wire, "seconds", least=1))


def _metered(value: Any) -> Metered | None:
    if value is None:
        return None
    for one in METERED:
        if one == value:
            return one
    raise _wrong("metered", f"one of {', '.join(METERED)}", value)


def _flag(wire: Mapping[str, Any], name: str) -> bool:
    value = wire.get(name, False)
    if type(value) is not bool:
        raise _wrong(name, "true or false", value)
    return value


def _number(
    wire: Mapping[str, Any], name: str, *, least: int = 0, most: int = _MAX_NUMBER
) -> int | None:
    value = wire.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise _wrong(name, f"a whole number from {least} to {most}", value)
    return value


def _minutes(name: str, value: Any) -> int:
    found = _TIME.fullmatch(value) if type(value) is str else None
    if found is None:
        raise _wrong(name, "a time like 22:30", value)
    return int(found[1]) * 60 + int(found[2])


def _check_map(name: str, value: Any) -> None:
    if type(value) is not dict:
        raise _wrong(name, "keys and values", value)


def _wrong(name: str, expected: str, found: Any) -> PolicyError:
    return PolicyError(f"policy: {name}: expected {expected}, found {found!r:.60}")
