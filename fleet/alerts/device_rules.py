# SPDX-License-Identifier: Apache-2.0
"""Rules over what a device last told: silence, restarts, latency, load, clock.

Owns these rules. Each gives a symptom from its limit on, and one that only keeps an
open alert while the value is within a tenth of the limit. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.alerts.symptom import Level, Symptom
from fleet.config import AlertLimits

SECOND_US: Final = 1_000_000
_HOUR_US: Final = 3600 * SECOND_US
_BAND: Final = 0.9
_LEAST_FLEET: Final = 8


@dataclass(frozen=True, slots=True)
class View:
    """How the rules look at devices.

    Attributes:
        now_us: The time.
        listening_us: Since when this server listens: what was sent before may wait.
        limits: The limits.
        budgets: p95 by model, seconds.
        models: Name of the model of a release, by the first 8 bytes of its digest.
    """

    now_us: int
    listening_us: int
    limits: AlertLimits
    budgets: Mapping[str, float]
    models: Mapping[bytes, str]


def find_device_symptoms(
    devices: Iterable[Mapping[str, Any]], view: View
) -> Iterator[Symptom]:
    """Give the symptoms of all devices; rows are those of ``store.facts``."""
    rows = list(devices)
    yield from _silence(rows, view)
    for row in rows:
        for rule in (_births, _latency, _memory, _temperature, _disk, _outbox):
            yield from rule(row, view)
        yield from _clock(row, view)
        yield from _failures(row, view)


def _silence(rows: list[Mapping[str, Any]], view: View) -> Iterator[Symptom]:
    limit_us = view.limits.silent_seconds * SECOND_US
    # While this server was away nobody was heard: such silence begins no alert.
    may_begin = view.now_us - view.listening_us > limit_us
    spoken = Counter(one["fleet"] for one in rows if one["last_seen_us"] is not None)
    silent: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        seen = row["last_seen_us"]
        if seen is not None and view.now_us - seen > limit_us:
            silent.setdefault(row["fleet"], []).append(row)
    for fleet, found in silent.items():
        # One cause, one alert: half a fleet does not lose power by chance.
        is_common = len(found) >= _LEAST_FLEET and 2 * len(found) > spoken[fleet]
        if is_common:
            yield Symptom(
                rule="fleet_silent",
                fleet=fleet,
                subject="fleet",
                device=None,
                level="serious",
                title=f"{len(found)} of {spoken[fleet]} devices of {fleet} are silent",
                next_step="look at the broker and the network between",
                link="/devices",
                begins=may_begin,
            )
        for row in found:
            minutes = (view.now_us - row["last_seen_us"]) // (60 * SECOND_US)
            what = f"nothing heard for {minutes} minutes"
            step = "check its power and network"
            begins = may_begin and not is_common
            yield _of(row, "device_silent", "notice", what, step, begins=begins)


def _births(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    recent = [one for one in row["births"] or () if one > view.now_us - _HOUR_US]
    limit = view.limits.births_an_hour
    if len(recent) >= limit:
        yield _of(
            row,
            "restart_loop",
            "serious",
            f"started or connected {len(recent)} times in an hour",
            "read its journal: journalctl -u edge-agent",
        )


def _latency(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    model = view.models.get(row["digest8"] or b"", "")
    budget_seconds = view.budgets.get(model, view.limits.p95_seconds)
    value, limit = row["p95_us"], budget_seconds * SECOND_US
    if value is not None and value > limit * _BAND:
        yield _of(
            row,
            "latency",
            "serious",
            f"95 % of inferences take up to {value / 1000:.1f} ms, "
            f"the budget is {limit / 1000:g} ms",
            "compare with the model's other variants: edge-convert inspect",
            begins=value > limit,
        )


def _memory(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    hardware = (row["birth"] or {}).get("hardware") or {}
    total, used = hardware.get("memory_bytes"), row["rss_kib"]
    if not isinstance(total, int) or total <= 0 or used is None:
        return
    percent, limit = 100 * used * 1024 / total, view.limits.memory_percent
    if percent > limit * _BAND:
        yield _of(
            row,
            "memory",
            "serious",
            f"the agent holds {percent:.0f} % of the device's memory",
            "set limits.memory in its agent.yaml; look for what grew",
            begins=percent > limit,
        )


def _temperature(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    value, limit = row["temperature"], view.limits.temperature_celsius
    if value is not None and value > limit - 5:
        yield _of(
            row,
            "temperature",
            "serious",
            f"the processor is at {value} °C",
            "look at its cooling and place",
            begins=value > limit,
        )


def _disk(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    value, limit = row["disk_free_mib"], view.limits.disk_free_bytes / (1 << 20)
    if value is not None and value * _BAND < limit:
        yield _of(
            row,
            "disk",
            "serious",
            f"{value} MiB of disk are left",
            "make room: an update needs twice its size",
            begins=value < limit,
        )


def _outbox(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    value, limit = row["pending"], view.limits.outbox_messages
    if value is not None and value > limit * _BAND:
        yield _of(
            row,
            "outbox",
            "notice",
            f"{value} messages wait in its outbox",
            "look at its link; a full outbox merges windows",
            begins=value > limit,
        )


def _clock(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    ahead, limit = row["clock_ahead_us"], view.limits.clock_seconds * SECOND_US
    if ahead is not None and abs(ahead) > limit * _BAND:
        side = "ahead" if ahead > 0 else "behind"
        yield _of(
            row,
            "clock_wrong",
            "notice",
            f"its clock is {abs(ahead) / SECOND_US:.0f} s {side}",
            "check its time source: timedatectl timesync-status",
            begins=abs(ahead) > limit,
        )


def _failures(row: Mapping[str, Any], view: View) -> Iterator[Symptom]:
    last = row["failed_us"]
    if last is not None and view.now_us - last < _HOUR_US:
        yield _of(
            row,
            "inference_failed",
            "serious",
            "inferences gave no finite output within the hour",
            "look at its events and log",
        )


def _of(
    row: Mapping[str, Any],
    rule: str,
    level: Level,
    what: str,
    next_step: str,
    *,
    begins: bool = True,
) -> Symptom:
    device = row["id"]
    return Symptom(
        rule=rule,
        fleet=row["fleet"],
        subject=device,
        device=device,
        level=level,
        title=f"{device}: {what}",
        next_step=next_step,
        link=f"/device/{device}",
        begins=begins,
    )
