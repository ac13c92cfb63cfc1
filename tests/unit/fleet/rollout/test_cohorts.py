# SPDX-License-Identifier: Apache-2.0
"""The control cohort: what ingest sums, what a look reads, and what follows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, insert, select

from edge_contract.operations import BUCKETS, Operations, encode_operations
from edge_contract.varint import decode_counts, encode_counts
from fleet.rollout.cohorts import read_cohorts
from fleet.rollout.health import Standing, judge_cohorts
from fleet.rollout.model import (
    Device,
    DeviceOutcome,
    Observation,
    Phase,
    PhaseKind,
    PhaseState,
    Policy,
    Rollout,
)
from fleet.store.engine import reading, writing
from fleet.store.tables import models, release_hours, verdicts
from fleet.store.windows import HOUR_US
from tests.support.fleet_devices import RecordedFleet
from tests.support.fleet_world import NOW_US, FleetWorld, HeldClock
from tests.support.registry_world import World
from tests.support.rollout_server import RolloutServer, serve_rollouts

NEW, OLD = "aa" * 32, "bb" * 32
START_US = NOW_US // HOUR_US * HOUR_US
NAMES = tuple(f"d{number}" for number in range(40))
TREATED = NAMES[:20]
FAST, SLOW = 40, 44  # buckets: an octave apart


def make_rollout(**changes: object) -> Rollout:
    phases = (
        Phase(PhaseKind.CANARY, 20, devices=TREATED, state=PhaseState.RUNNING),
        Phase(PhaseKind.ALL),
    )
    return Rollout("r2", "default", "main", "sample", 2, NEW, "models/sample-2.bundle",
                   "salt", phases, started_us=START_US, **changes)  # type: ignore[arg-type]  # fmt: skip


class Hours:
    """Writes hours as ingest does, and looks at them as the engine does."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        clock = HeldClock()
        RecordedFleet(engine, clock).add(*NAMES)
        with writing(engine) as connection:
            for counter, digest in ((1, OLD), (2, NEW)):
                connection.execute(
                    insert(models).values(
                        name="sample",
                        release_counter=counter,
                        digest=digest,
                        target_path=f"models/sample-{counter}.bundle",
                        bytes=1,
                        ref_id=bytes.fromhex(digest)[:8],
                        manifest={},
                        published_us=0,
                    )
                )

    def add(
        self, device: str, digest: str, hour: int, points: float, bucket: int = FAST
    ) -> None:
        latency = np.zeros(BUCKETS, np.int64)
        latency[bucket] = 1000
        with writing(self.engine) as connection:
            connection.execute(
                insert(release_hours).values(
                    device=device,
                    digest8=bytes.fromhex(digest)[:8],
                    hour_us=START_US + hour * HOUR_US,
                    inferences=1000,
                    confident=1000,
                    confidence_ppm=round(points * 10_000_000),
                    latency=encode_counts(latency),
                )
            )

    def read(self, rollout: Rollout | None = None) -> dict[str, Standing]:
        rollout = rollout or make_rollout()
        observations = {
            name: Observation(DeviceOutcome.SUCCEEDED, START_US, compared=500,
                              disagreed=50)
            for name in TREATED
        }  # fmt: skip
        devices = tuple(Device(name, {}, NOW_US) for name in NAMES)
        with reading(self.engine) as connection:
            found = read_cohorts(connection, rollout, devices, observations)
        self.found = found
        health = judge_cohorts(found, rollout.policy)
        return {one.figure: one.standing for one in health.comparisons}


@pytest.fixture
def hours(engine: Engine) -> Hours:
    return Hours(engine)


def fill(hours: Hours, points: float, bucket: int = FAST) -> None:
    """A day before and an hour since; the new release changes by ``points``."""
    for number, name in enumerate(NAMES):
        own = 80 + number % 7  # devices differ; their changes do not
        hours.add(name, OLD, -5, own)
        if name in TREATED:
            hours.add(name, NEW, 1, own + points + 0.1 * (number % 3), bucket)
        else:
            hours.add(name, OLD, 1, own + 0.1 * (number % 3))


def test_a_release_that_changes_nothing_is_shown_to_be_not_worse(hours: Hours) -> None:
    fill(hours, 0)

    assert hours.read() == {
        "confidence": Standing.NOT_WORSE,
        "latency": Standing.NOT_WORSE,
        # Twenty devices without a verdict are compatible with one in five.
        "drift": Standing.UNDECIDED,
    }
    assert hours.found.treated.devices == hours.found.control.devices == 20


def test_a_fall_in_confidence_is_worse(hours: Hours) -> None:
    fill(hours, -6)

    assert hours.read()["confidence"] is Standing.WORSE
    assert hours.found.treated.confidence.mean == pytest.approx(-5.905, abs=1e-6)


def test_a_slower_release_is_worse(hours: Hours) -> None:
    fill(hours, 0, SLOW)

    assert hours.read()["latency"] is Standing.WORSE
    assert hours.found.treated.latency.mean == pytest.approx(1.0, abs=1e-9)


def test_an_afternoon_that_is_bad_for_all_is_not_held_against_it(hours: Hours) -> None:
    for number, name in enumerate(NAMES):
        digest = NEW if name in TREATED else OLD
        hours.add(name, OLD, -5, 90 + 0.1 * (number % 3))
        hours.add(name, digest, 1, 60 + 0.1 * (number % 5))

    assert hours.read()["confidence"] is Standing.NOT_WORSE


def test_only_hours_that_both_have_are_compared(hours: Hours) -> None:
    fill(hours, 0)
    for name in TREATED:
        hours.add(name, NEW, 2, 10)  # nobody of the control cohort was there

    assert hours.read()["confidence"] is Standing.NOT_WORSE


def test_without_a_control_cohort_nothing_is_shown(hours: Hours) -> None:
    for name in TREATED:
        hours.add(name, OLD, -5, 80)
        hours.add(name, NEW, 1, 80)

    assert set(hours.read().values()) == {Standing.UNMEASURED}


def test_disagreement_counts_where_the_policy_has_a_limit(hours: Hours) -> None:
    fill(hours, 0)
    for limit, expected in ((30, Standing.NOT_WORSE), (5, Standing.WORSE)):
        device = {"trial": {"max_disagreement_percent": limit}}
        rollout = make_rollout(policy=Policy(device=device))
        assert hours.read(rollout)["disagreement"] is expected


def open_verdict(hours: Hours, device: str | None, kind: str, **how: object) -> None:
    values = {
        "subject": device or "release",
        "fleet": "default",
        "ref_id": bytes.fromhex(NEW)[:8],
        "provisional": False,
        "opened_us": START_US + 2 * HOUR_US,
        "evidence": {},
    } | how
    with writing(hours.engine) as connection:
        connection.execute(insert(verdicts).values(device=device, kind=kind, **values))


def test_drift_verdicts_count_from_when_the_release_serves(hours: Hours) -> None:
    fill(hours, 0)
    for name in TREATED[:15]:
        open_verdict(hours, name, "device")
    open_verdict(hours, TREATED[15], "sensor_fault")
    open_verdict(hours, TREATED[16], "device", evidence={"material": False})
    open_verdict(hours, NAMES[30], "device", opened_us=START_US - 1)

    rollout = make_rollout(policy=Policy(drift_points=5))
    assert hours.read(rollout)["drift"] is Standing.WORSE
    assert hours.found.treated.drift.count == 15
    assert hours.found.control.drift.count == 0


def test_a_verdict_on_the_deployment_is_enough(hours: Hours) -> None:
    fill(hours, 0)
    hours.read()
    assert not judge_cohorts(hours.found, Policy()).is_worse
    open_verdict(hours, None, "deploy")

    hours.read()

    assert judge_cohorts(hours.found, Policy()).is_worse


def test_ingest_sums_a_release_by_the_hour(tmp_path: Path) -> None:
    world = FleetWorld(tmp_path)
    latency = np.zeros(BUCKETS, np.int64)
    latency[30] = 64
    block = encode_operations(Operations(latency=latency))
    device = world.device()
    world.ingest(*(device.window(seq, operation_block=block) for seq in (1, 2)))
    world.ingest(device.window(2, operation_block=block))  # again: not counted
    world.ingest(device.window(3, operation_block=b"\xff" * 9))

    with reading(world.engine) as connection:
        rows = connection.execute(select(release_hours)).mappings().all()

    assert [(row["inferences"], row["confident"]) for row in rows] == [(192, 192)]
    assert decode_counts(rows[0]["latency"], BUCKETS)[30] == 128
    assert 0.3 * 192e6 < rows[0]["confidence_ppm"] < 192e6


@pytest.fixture
def server(world: World) -> Iterator[RolloutServer]:
    with serve_rollouts(world) as server:
        yield server


def test_a_release_that_is_worse_halts_beside_devices_on_the_old_one(
    server: RolloutServer,
) -> None:
    engine, clock = server.world.services.engine, server.world.clock
    server.fleet.add(*NAMES)
    old = server.complete(1, *NAMES)
    new = server.publish(b"model 2")
    server.run("rollout", "create", "--model", "sample", "--phases", "20,all",
               "--deadline", "6h", "--max-failures", "20%")  # fmt: skip
    server.tick()
    canaries = server.run("rollout", "show", "r2").document["phases"][0]["devices"]
    server.commit(new, *canaries)
    server.tick()
    waiting = server.run("rollout", "show", "r2").document
    assert waiting["phases"][0]["gate"]["ground"] == "gathering_evidence"

    now_hour = clock.wall_us() // HOUR_US * HOUR_US
    with writing(engine) as connection:
        for number, name in enumerate(NAMES):
            digest = new if name in canaries else old
            for hour_us, release, points in (
                (now_hour - HOUR_US, old, 90),
                (now_hour + HOUR_US, digest, 80 if name in canaries else 90),
            ):
                connection.execute(
                    insert(release_hours).values(
                        device=name,
                        digest8=bytes.fromhex(release)[:8],
                        hour_us=hour_us,
                        inferences=1000,
                        confident=1000,
                        confidence_ppm=(points * 10 + number % 3) * 1_000_000,
                        latency=bytes(BUCKETS),
                    )
                )
    server.tick(seconds=60)

    halted = server.run("rollout", "show", "r2")
    assert halted.document["state"] == "halted"
    assert halted.document["phases"][0]["gate"]["ground"] == "worse_than_control"
    assert "confidence is worse by more than tolerated" in halted.document["reason"]
    assert "confidence: worse by 10." in halted.text
