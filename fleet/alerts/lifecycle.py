# SPDX-License-Identifier: Apache-2.0
"""When an alert opens, is told, and closes.

Owns deduplication (one live alert a rule, fleet and subject), hysteresis (a symptom
must last before an alert opens, and be gone for a while before it closes) and silence
(a muted or acknowledged alert is not told). Pure; what is decided is a ``Plan``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from fleet.alerts.symptom import HOLD_SECONDS, Symptom

Row = Mapping[str, Any]
ANY: Final = "*"
MOST_AT_ONCE: Final = 500  # in one transaction: a storm must not keep ingest waiting
_SECOND_US: Final = 1_000_000
_WORDS: Final = ("level", "title", "next_step", "link", "device")


@dataclass(slots=True)
class Plan:
    """What is to be written.

    Attributes:
        begin: Symptoms without a live alert.
        change: Alert id -> columns.
        forget: Alerts that never opened and whose symptom is gone.
        tell: Alerts to be told as opened, after their change.
        close: Alerts to be closed.
    """

    begin: list[Symptom] = field(default_factory=list)
    change: dict[int, dict[str, Any]] = field(default_factory=dict)
    forget: list[int] = field(default_factory=list)
    tell: list[int] = field(default_factory=list)
    close: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.begin, self.change, self.forget, self.tell, self.close))


def plan(
    symptoms: Iterable[Symptom],
    live: Sequence[Row],
    mutes: Sequence[Row],
    now_us: int,
    clear_seconds: float,
) -> Plan:
    """Compare what is wrong with the alerts that live.

    Args:
        symptoms: All that is wrong now.
        live: Rows of ``alerts`` that are not closed.
        mutes: Rows of ``alert_mutes`` that hold.
        now_us: The time.
        clear_seconds: How long a symptom must be gone before its alert closes.
    """
    found = {one.key: one for one in symptoms}
    made = Plan()
    known = set()
    for row in live:
        key = (row["rule"], row["fleet"], row["subject"])
        known.add(key)
        symptom = found.get(key)
        if symptom is not None:
            _go_on(made, row, symptom, now_us)
        elif row["opened_us"] is None:
            made.forget.append(row["id"])
        elif row["well_us"] is None:
            made.change[row["id"]] = {"well_us": now_us}
        elif now_us - row["well_us"] >= clear_seconds * _SECOND_US:
            made.close.append(row["id"])
        if row["id"] not in made.close and _wants_telling(made, row, mutes):
            made.tell.append(row["id"])
    fresh = [one for key, one in found.items() if key not in known and one.begins]
    made.begin = sorted(fresh, key=lambda one: one.level != "serious")[:MOST_AT_ONCE]
    made.tell, made.close = made.tell[:MOST_AT_ONCE], made.close[:MOST_AT_ONCE]
    return made


def is_muted(row: Row, mutes: Sequence[Row]) -> bool:
    """Whether somebody asked for silence about an alert."""
    return any(
        mute["fleet"] in {ANY, row["fleet"]}
        and mute["rule"] in {ANY, row["rule"]}
        and mute["subject"] in {ANY, row["subject"], row["device"]}
        for mute in mutes
    )


def hold_us(rule: str) -> int:
    """Return how long a rule's symptom must last before its alert opens."""
    return int(HOLD_SECONDS.get(rule, 0.0) * _SECOND_US)


def _go_on(made: Plan, row: Row, symptom: Symptom, now_us: int) -> None:
    if row["opened_us"] is None and not symptom.begins:
        made.forget.append(row["id"])
        return
    changes: dict[str, Any] = {
        name: getattr(symptom, name)
        for name in _WORDS
        if getattr(symptom, name) != row[name]
    }
    if row["well_us"] is not None:
        changes["well_us"] = None
    if row["opened_us"] is None and now_us - row["began_us"] >= hold_us(row["rule"]):
        changes["opened_us"] = now_us
    if changes:
        made.change[row["id"]] = changes


def _wants_telling(made: Plan, row: Row, mutes: Sequence[Row]) -> bool:
    opens_now = "opened_us" in made.change.get(row["id"], {})
    is_open = row["opened_us"] is not None or opens_now
    if not is_open or row["told_us"] is not None or row["acked_us"] is not None:
        return False
    return not is_muted(row, mutes)
