# SPDX-License-Identifier: Apache-2.0
"""What needs a person, worst first, each with its next step.

Owns the rules of the strip on top of the overview. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

SILENT_SECONDS = 900  # three heartbeats
_MICROSECONDS = 1_000_000
_STOPPED = {"held", "paused", "aborted"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of the strip.

    Attributes:
        level: How bad.
        title: What is wrong.
        next_step: What to do about it.
        link: The page to look at.
    """

    level: Literal["serious", "notice"]
    title: str
    next_step: str
    link: str


def find_problems(
    devices: Iterable[Mapping[str, Any]],
    verdicts: Iterable[Mapping[str, Any]],
    rollouts: Iterable[Mapping[str, Any]],
    now_us: int,
) -> list[Problem]:
    """Return all problems, serious ones first.

    Args:
        devices: ``id``, ``last_seen_us`` and ``failed`` of each device.
        verdicts: Open verdicts as documents.
        rollouts: The latest rollouts, the latest first.
        now_us: The time, microseconds UTC.
    """
    found = [_drift(one) for one in verdicts]
    for one in devices:
        link = f"/device/{one['id']}"
        if one["failed"]:
            title = f"{one['id']}: {one['failed']} inferences failed"
            found.append(Problem("serious", title, "look at its events and log", link))
        if is_silent(one["last_seen_us"], now_us):
            silent = (now_us - one["last_seen_us"]) // (60 * _MICROSECONDS)
            title = f"{one['id']}: nothing heard for {silent} minutes"
            step = "check its power and network"
            found.append(Problem("notice", title, step, link))
    for rollout in list(rollouts)[:1]:
        if rollout["state"] in _STOPPED:
            title = (
                f"rollout {rollout['id']} is {rollout['state']}: {rollout['reason']}"
            )
            step = f"edge-fleet rollout show {rollout['id']}"
            found.append(Problem("serious", title, step, "/"))
    return sorted(found, key=lambda one: one.level != "serious")


def is_silent(last_seen_us: int | None, now_us: int) -> bool:
    """Whether a device that has spoken before has gone silent."""
    if last_seen_us is None:
        return False
    return now_us - last_seen_us > SILENT_SECONDS * _MICROSECONDS


def _drift(verdict: Mapping[str, Any]) -> Problem:
    moves = ", ".join(one["summary"] for one in verdict["features"])
    suffix = " (provisional)" if verdict["provisional"] else ""
    if verdict["device"] is None or verdict["kind"] != "device":
        link = f"/drift?device={verdict['device']}" if verdict["device"] else "/drift"
        return Problem(
            "notice" if verdict["kind"] == "season" else "serious",
            verdict["summary"],
            verdict["next_step"],
            link,
        )
    return Problem(
        "serious",
        f"{verdict['device']} has drifted{suffix}: {moves}",
        f"edge-fleet sample request {verdict['device']}",
        f"/drift?device={verdict['device']}",
    )
