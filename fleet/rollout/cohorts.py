# SPDX-License-Identifier: Apache-2.0
"""The figures of a rollout's devices and of its control cohort, from the database.

Owns this package's reading of ``release_hours`` and ``verdicts``. A device's figure is
its change: since the rollout started, in hours that both cohorts have, against the day
before. At most so many devices a side are read, so a look costs the same for any fleet.
``health`` judges.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from statistics import fmean, variance

import numpy as np
from sqlalchemy import Connection, RowMapping, select

from edge_contract.binning import Int64
from edge_contract.operations import BUCKETS, latency_quantile_us
from edge_contract.varint import decode_counts
from fleet.rollout.bounds import Sample, Share
from fleet.rollout.health import Cohort, Cohorts
from fleet.rollout.model import Device, DeviceOutcome, Observation, Rollout
from fleet.rollout.planner import find_fitting, find_place, find_reached
from fleet.store.tables import models, release_hours, rollouts, verdicts
from fleet.store.windows import HOUR_US

MAX_COHORT = 1000
_BEFORE_US = 24 * HOUR_US
_MIN_INFERENCES = 30
_TAIL = 0.95
_PERCENT = 100.0
_PPM_A_POINT = 10_000
_CHUNK = 500  # names in one query
# What a model may be the cause of; a world that changed or a sensor are not.
_KINDS = ("device", "concept", "label_shift", "quantization")


@dataclass(slots=True)
class _Sums:
    """What a device measured in some hours."""

    confident: int = 0
    confidence_ppm: int = 0
    latency: Int64 = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))

    def add(self, row: RowMapping) -> None:
        self.confident += row["confident"]
        self.confidence_ppm += row["confidence_ppm"]
        self.latency = self.latency + decode_counts(row["latency"], BUCKETS)

    @property
    def confidence(self) -> float | None:
        """Mean, points of a hundred."""
        if self.confident < _MIN_INFERENCES:
            return None
        return self.confidence_ppm / self.confident / _PPM_A_POINT

    @property
    def log_latency(self) -> float | None:
        """log2 of the 95th percentile."""
        if int(self.latency.sum()) < _MIN_INFERENCES:
            return None
        return log2(latency_quantile_us(self.latency, _TAIL))


@dataclass(frozen=True, slots=True)
class _Hour:
    """A row, and which side of the start it is on."""

    device: str
    hour_us: int
    is_new: bool
    row: RowMapping


def has_older_release(connection: Connection, rollout: Rollout) -> bool:
    """Whether another release was ever brought to the rollout's slot."""
    query = select(rollouts.c.id).where(
        rollouts.c.fleet == rollout.fleet,
        rollouts.c.slot == rollout.slot,
        rollouts.c.digest != rollout.digest,
        rollouts.c.state == "completed",
    )
    return connection.execute(query).first() is not None


def read_cohorts(
    connection: Connection,
    rollout: Rollout,
    devices: Sequence[Device],
    observations: Mapping[str, Observation],
) -> Cohorts:
    """Return what both cohorts measured since a rollout started."""
    treated = _pick(
        rollout,
        [
            device
            for device, one in observations.items()
            if one.outcome is DeviceOutcome.SUCCEEDED
        ],
    )
    touched = set(find_reached(rollout, devices)) | set(treated)
    control = _pick(
        rollout,
        [
            one.id
            for one in find_fitting(rollout.where, devices)
            if one.id not in touched
        ],
    )
    hours = list(_read_hours(connection, rollout, [*treated, *control]))
    start_us = rollout.started_us // HOUR_US * HOUR_US
    common = _hours_of(hours, set(treated), start_us, is_new=True) & _hours_of(
        hours, set(control), start_us, is_new=False
    )
    first_us = min(common, default=rollout.started_us)
    opened = _list_opened(connection, rollout, first_us)
    sides = {}
    for name, side, is_new in (("treated", treated, True), ("control", control, False)):
        since, before = _split(hours, set(side), common, start_us, is_new=is_new)
        drifted = sum(
            opened.get(device, 0) >= _since(observations, device, first_us)
            for device in since
        )
        sides[name] = _summarise(since, before, Share(drifted, len(since)))
    return Cohorts(
        treated=sides["treated"],
        control=sides["control"],
        disagreement=_read_disagreement(observations, treated),
        deploy_verdict=_find_deploy_verdict(connection, rollout),
    )


def _pick(rollout: Rollout, names: Iterable[str]) -> list[str]:
    """Return at most ``MAX_COHORT`` devices, by chance but always the same."""
    return sorted(names, key=lambda one: find_place(rollout.salt, one))[:MAX_COHORT]


def _read_hours(
    connection: Connection, rollout: Rollout, names: Sequence[str]
) -> Iterator[_Hour]:
    new = bytes.fromhex(rollout.digest)[:8]
    older = _list_older(connection, rollout)
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        query = select(release_hours).where(
            release_hours.c.device.in_(chunk),
            release_hours.c.hour_us >= rollout.started_us - _BEFORE_US,
            release_hours.c.digest8.in_([new, *older]),
        )
        for row in connection.execute(query).mappings():
            yield _Hour(row["device"], row["hour_us"], row["digest8"] == new, row)


def _list_older(connection: Connection, rollout: Rollout) -> list[bytes]:
    """Return the other releases of this slot: not those of a neighbouring slot."""
    named = select(models.c.digest).where(models.c.name == rollout.model)
    rolled = select(rollouts.c.digest).where(
        rollouts.c.fleet == rollout.fleet, rollouts.c.slot == rollout.slot
    )
    found = set(connection.execute(named).scalars())
    found |= set(connection.execute(rolled).scalars())
    return sorted(bytes.fromhex(one)[:8] for one in found - {rollout.digest})


def _hours_of(
    hours: Iterable[_Hour], names: Collection[str], start_us: int, *, is_new: bool
) -> set[int]:
    return {
        one.hour_us
        for one in hours
        if one.device in names and one.hour_us >= start_us and one.is_new is is_new
    }


def _split(
    hours: Iterable[_Hour],
    names: Collection[str],
    common: Collection[int],
    start_us: int,
    *,
    is_new: bool,
) -> tuple[dict[str, _Sums], dict[str, _Sums]]:
    """Return the sums since the start, in common hours, and those of before."""
    since: dict[str, _Sums] = defaultdict(_Sums)
    before: dict[str, _Sums] = defaultdict(_Sums)
    for one in hours:
        if one.device not in names:
            continue
        if one.hour_us < start_us and not one.is_new:
            before[one.device].add(one.row)
        elif one.hour_us in common and one.is_new is is_new:
            since[one.device].add(one.row)
    return since, before


def _summarise(
    since: Mapping[str, _Sums], before: Mapping[str, _Sums], drift: Share
) -> Cohort:
    confidence, latency = [], []
    for device, now in since.items():
        then = before.get(device)
        if then is None:
            continue
        if now.confidence is not None and then.confidence is not None:
            confidence.append(now.confidence - then.confidence)
        if now.log_latency is not None and then.log_latency is not None:
            latency.append(now.log_latency - then.log_latency)
    return Cohort(len(since), _sample(confidence), _sample(latency), drift)


def _sample(values: Sequence[float]) -> Sample:
    if not values:
        return Sample()
    spread = variance(values) if len(values) > 1 else 0.0
    return Sample(len(values), fmean(values), spread)


def _since(observations: Mapping[str, Observation], device: str, first_us: int) -> int:
    """Return from when on a verdict speaks about what the device runs now."""
    one = observations.get(device)
    is_new = one is not None and one.outcome is DeviceOutcome.SUCCEEDED
    return max(first_us, one.since_us if one is not None and is_new else 0)


def _list_opened(
    connection: Connection, rollout: Rollout, first_us: int
) -> dict[str, int]:
    """Return when the newest verdict of each device was opened."""
    query = select(verdicts).where(
        verdicts.c.fleet == rollout.fleet,
        verdicts.c.device.is_not(None),
        verdicts.c.kind.in_(_KINDS),
        verdicts.c.opened_us >= first_us,
    )
    found: dict[str, int] = {}
    for row in connection.execute(query).mappings():
        if row["evidence"].get("material", True):
            found[row["device"]] = max(found.get(row["device"], 0), row["opened_us"])
    return found


def _read_disagreement(
    observations: Mapping[str, Observation], treated: Iterable[str]
) -> Sample:
    shares = [
        _PERCENT * min(one.disagreed, one.compared) / one.compared
        for one in (observations[device] for device in treated)
        if one.compared >= _MIN_INFERENCES
    ]
    return _sample(shares)


def _find_deploy_verdict(connection: Connection, rollout: Rollout) -> str:
    """Return what the drift engine says of the release itself; empty for nothing."""
    query = (
        select(verdicts)
        .join(models, models.c.ref_id == verdicts.c.ref_id)
        .where(
            verdicts.c.fleet == rollout.fleet,
            verdicts.c.kind == "deploy",
            verdicts.c.closed_us.is_(None),
            verdicts.c.opened_us >= rollout.started_us,
            models.c.digest == rollout.digest,
        )
    )
    for row in connection.execute(query).mappings():
        if row["evidence"].get("material", True):
            return f"the drift engine blames the deployment ({row['subject']})"
    return ""
