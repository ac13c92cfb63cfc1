# SPDX-License-Identifier: Apache-2.0
"""Rules over what other features left in their tables.

Owns the symptoms of refusals, updates, rollouts, verdicts, and of conditions that
events began. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fleet.alerts.device_rules import SECOND_US
from fleet.alerts.symptom import MOST_SUBJECT, Level, Symptom
from fleet.config import AlertLimits

FORGED: Final = ("mac", "key-epoch", "envelope", "wrong-fleet", "unknown-device")
STOPPED: Final = ("held", "halted")
# Ends of an update, and the state in which a device waits on purpose.
_SETTLED: Final = frozenset(
    {"IDLE", "COMMITTED", "ROLLED_BACK", "FAILED", "REJECTED", "SUPERSEDED", "DEFERRED"}
)
_QUIET_KINDS: Final = frozenset({"season"})
_CONDITIONS: Final[dict[str, tuple[Level, str, str]]] = {
    "sensor_fault": (
        "serious",
        "a sensor is broken",
        "look at it on site; edge-fleet drift show {device}",
    ),
    "accuracy_drop": (
        "serious",
        "labels say that the model errs more",
        "edge-fleet drift show {device}; collect labels and retrain",
    ),
    "limit": (
        "notice",
        "a limit of its own is passed",
        "see limits in its agent.yaml",
    ),
    "stall": ("serious", "a model stands still", "read its journal: all stacks"),
    "model_refused": (
        "serious",
        "a model was refused",
        "edge-fleet device show {device}",
    ),
    "outbox_damaged": (
        "serious",
        "its outbox was damaged",
        "check its disk; what was lost is declared",
    ),
}


def find_forgeries(
    refusals: Iterable[Mapping[str, Any]],
    fleets: Mapping[str, str],
    limits: AlertLimits,
) -> Iterator[Symptom]:
    """Give a symptom a device in whose name too many messages are not authentic."""
    counts: dict[str, int] = {}
    for row in refusals:
        counts[row["device"]] = counts.get(row["device"], 0) + row["hour_count"]
    for device, count in counts.items():
        if count < limits.mac_failures_an_hour:
            continue
        known = device in fleets
        who = f"in the name of {device}" if known else "of unknown devices"
        yield Symptom(
            rule="mac_failures",
            fleet=fleets.get(device, "*"),
            subject=device if known else "unknown",
            device=device if known else None,
            level="serious",
            title=f"{count} messages {who} are not authentic",
            next_step=(
                f"compare its enrolment: edge-fleet device show {device}"
                if known
                else "see who may write to the broker"
            ),
            link=f"/device/{device}" if known else "/devices",
        )


def find_stuck_updates(
    updates: Iterable[Mapping[str, Any]],
    fleets: Mapping[str, str],
    now_us: int,
    limits: AlertLimits,
) -> Iterator[Symptom]:
    """Give a symptom a device whose update stays in one state."""
    for row in updates:
        device, age_us = row["device"], now_us - row["received_us"]
        is_old = age_us > limits.update_seconds * SECOND_US
        if device not in fleets or row["state"] in _SETTLED or not is_old:
            continue
        hours = age_us / SECOND_US / 3600
        yield Symptom(
            rule="update_stuck",
            fleet=fleets[device],
            subject=device,
            device=device,
            level="serious",
            title=f"{device}: its update is {row['state']} for {hours:.1f} hours",
            next_step=f"edge-fleet device show {device}",
            link=f"/device/{device}",
        )


def find_stopped_rollouts(rollouts: Iterable[Mapping[str, Any]]) -> Iterator[Symptom]:
    """Give a symptom a rollout that waits for a person."""
    for row in rollouts:
        yield Symptom(
            rule="rollout",
            fleet=row["fleet"],
            subject=row["id"],
            device=None,
            level="serious",
            title=f"rollout {row['id']} is {row['state']}: {row['reason']}",
            next_step=f"edge-fleet rollout show {row['id']}",
        )


def find_ending_signatures(rows: Iterable[Mapping[str, Any]]) -> Iterator[Symptom]:
    """Give a symptom a signature that is about to end, or has ended."""
    for row in rows:
        yield Symptom(
            rule="signature_ends",
            fleet="*",
            subject=row["role"],
            device=None,
            level="serious",
            title=row["title"],
            next_step=row["next_step"],
        )


def find_verdicts(verdicts: Iterable[Mapping[str, Any]]) -> Iterator[Symptom]:
    """Give a symptom an open verdict; a season is none."""
    for row in verdicts:
        if row["kind"] in _QUIET_KINDS:
            continue
        evidence, device = row["evidence"], row["device"]
        yield Symptom(
            rule=f"drift_{row['kind']}",
            fleet=row["fleet"],
            subject=row["subject"],
            device=device,
            level="notice" if row["provisional"] else "serious",
            title=evidence["summary"],
            next_step=evidence["next_step"],
            link=f"/drift?device={device}" if device else "/drift",
        )


def find_conditions(conditions: Iterable[Mapping[str, Any]]) -> Iterator[Symptom]:
    """Give a symptom a condition that events began and have not ended."""
    for row in conditions:
        level, what, step = _CONDITIONS[row["rule"]]
        device, part = row["device"], row["part"]
        detail = f": {row['detail']}" if row["detail"] else ""
        yield Symptom(
            rule=row["rule"],
            fleet=row["fleet"],
            subject=f"{device}/{part}"[:MOST_SUBJECT],
            device=device,
            level=level,
            title=f"{device} {part}: {what}{detail}",
            next_step=step.format(device=device),
            link=f"/device/{device}",
        )
