# SPDX-License-Identifier: Apache-2.0
"""From what devices send to alerts and deliveries, over a real database."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select, update

from edge_contract.messages import Event
from edge_contract.operations import Operations, count_latencies, encode_operations
from edge_contract.wire import Scalar
from fleet.alerts.engine import AlertEngine
from fleet.config import AlertsConfig
from fleet.devices.enrol import insert_devices
from fleet.store.alert_tables import alerts, deliveries
from fleet.store.engine import reading, writing
from fleet.store.tables import (
    rollouts,
    update_reports,
    verdicts,
)
from tests.support.fleet_device import FakeDevice, Sealed
from tests.support.fleet_world import NOW_US, FleetWorld

SECOND = 1_000_000
HOUR = 3600 * SECOND


@dataclass
class Alerts:
    """An engine on a world, and its time."""

    world: FleetWorld
    config: AlertsConfig = field(default_factory=AlertsConfig)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start the engine as a server that was killed does."""
        self.engine = AlertEngine(
            self.world.engine, self.world.clock, self.config, ["hook"]
        )

    def after(self, seconds: float, *messages: Sealed) -> None:
        """Let time pass, take messages in, look."""
        self.world.clock.now_us += int(seconds * SECOND)
        if messages:
            self.world.ingest(*messages)
        self.engine.tick()

    def beat(self, seconds: float, device: FakeDevice, ahead: int = 0) -> None:
        """Let time pass, take a heartbeat of a clock so far ahead, look."""
        time_us = self.world.clock.now_us + int((seconds + ahead) * SECOND)
        self.after(seconds, device.state(online=True, time_us=time_us))

    def open(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the open alerts by rule and subject."""
        with reading(self.world.engine) as connection:
            query = select(alerts).where(
                alerts.c.closed_us.is_(None), alerts.c.opened_us.is_not(None)
            )
            rows = connection.execute(query).mappings().all()
        return {(one["rule"], one["subject"]): dict(one) for one in rows}

    def queued(self) -> list[tuple[str, str]]:
        """Return (rule, event) of all deliveries, in order."""
        with reading(self.world.engine) as connection:
            query = select(deliveries.c.body).order_by(deliveries.c.id)
            bodies = connection.execute(query).scalars().all()
        return [(one["alert"]["rule"], one["event"]) for one in bodies]


@pytest.fixture
def site(tmp_path: Path) -> Alerts:
    return Alerts(FleetWorld(tmp_path))


def event(
    device: FakeDevice, seq: int, name: str, severity: str, **fields: Scalar
) -> Sealed:
    return device.seal(
        Event(device.boot_id, seq, name, severity, 5, "words", dict(fields))
    )


def operations(p95_ns: int = 5000, **known: Any) -> bytes:
    latency = count_latencies(np.full(100, p95_ns, np.int64))
    return encode_operations(replace(Operations(latency=latency), **known))


def test_a_silent_device_alerts_once_and_closes_by_itself(site: Alerts) -> None:
    device = site.world.device()
    site.after(1, device.window(1))
    site.after(899)
    assert site.open() == {}
    site.after(2)
    site.after(60)

    found = site.open()
    assert [*found] == [("device_silent", "watch-1")]
    assert found["device_silent", "watch-1"]["title"].endswith("for 16 minutes")
    assert site.queued() == [("device_silent", "opened")]

    site.after(1, device.window(2))
    site.after(299, device.window(3))
    assert [*site.open()] == [("device_silent", "watch-1")]
    site.after(2)
    assert site.open() == {}
    assert site.queued() == [("device_silent", "opened"), ("device_silent", "closed")]


def test_a_server_that_was_away_blames_no_device(site: Alerts) -> None:
    site.after(1, site.world.device().window(1))
    site.world.clock.now_us += 5 * HOUR
    site.restart()

    site.after(899)
    assert site.open() == {}
    site.after(2)
    assert [*site.open()] == [("device_silent", "watch-1")]
    # The next restart does not close what still holds.
    site.restart()
    site.after(600)
    site.after(600)
    assert [*site.open()] == [("device_silent", "watch-1")]
    assert site.queued() == [("device_silent", "opened")]


def test_half_a_silent_fleet_is_one_alert(tmp_path: Path) -> None:
    site = Alerts(FleetWorld(tmp_path))
    names = [f"d{number}" for number in range(10)]
    with writing(site.world.engine) as connection:
        insert_devices(connection, names, fleet="default", tags={}, now_us=NOW_US)
    site.after(1, *(site.world.device(one).window(1) for one in names))

    site.after(901)

    found = site.open()
    assert [*found] == [("fleet_silent", "fleet")]
    assert found["fleet_silent", "fleet"]["title"] == (
        "10 of 10 devices of default are silent"
    )


def test_a_latency_over_budget_must_last(site: Alerts) -> None:
    device = site.world.device()
    slow, fast = operations(p95_ns=3_000_000_000), operations(p95_ns=3_000_000)

    site.after(1, device.window(1, operation_block=slow))
    site.after(599, device.window(2, operation_block=slow))
    assert site.open() == {}
    site.after(2, device.window(3, operation_block=slow))
    assert [*site.open()] == [("latency", "watch-1")]
    site.after(1, device.window(4, operation_block=fast))
    site.after(300, device.window(5, operation_block=fast))
    assert site.open() == {}


@pytest.mark.parametrize(
    ("rule", "bad", "between", "good"),
    [
        ("temperature", {"temperature": 86}, {"temperature": 82}, {"temperature": 79}),
        (
            "disk",
            {"disk_free_mib": 255},
            {"disk_free_mib": 260},
            {"disk_free_mib": 400},
        ),
    ],
)
def test_a_band_lies_between_opening_and_closing(
    site: Alerts,
    rule: str,
    bad: dict[str, int],
    between: dict[str, int],
    good: dict[str, int],
) -> None:
    device = site.world.device()
    site.after(1, device.window(1, operation_block=operations(**bad)))
    site.after(301, device.window(2, operation_block=operations(**bad)))
    assert [*site.open()] == [(rule, "watch-1")]

    site.after(1, device.window(3, operation_block=operations(**between)))
    site.after(600, device.window(4, operation_block=operations(**between)))
    assert [*site.open()] == [(rule, "watch-1")]

    site.after(1, device.window(5, operation_block=operations(**good)))
    site.after(301, device.window(6, operation_block=operations(**good)))
    assert site.open() == {}


def test_a_wrong_clock_must_be_wrong_in_more_than_one_heartbeat(site: Alerts) -> None:
    device = site.world.device()
    site.beat(0, device, ahead=400)
    site.beat(300, device)
    site.beat(800, device)
    assert site.open() == {}

    site.beat(1, device, ahead=4000)
    site.beat(300, device, ahead=4000)
    site.beat(301, device, ahead=4000)
    assert [*site.open()] == [("clock_wrong", "watch-1")]
    # Set right, its heartbeats count again though they are older than the last.
    site.beat(1, device)
    site.beat(301, device)
    assert site.open() == {}


def test_births_outbox_and_failures(site: Alerts) -> None:
    device = site.world.device()
    births = [device.birth(seq, seq) for seq in range(1, 7)]
    site.after(1, *births, device.window(7, failed=3))
    assert {rule for rule, _ in site.open()} == {"restart_loop", "inference_failed"}

    site.beat(3700, device)
    site.beat(301, device)
    assert site.open() == {}


def test_forged_messages_alert_under_the_name_they_use(site: Alerts) -> None:
    topic, data = site.world.device().window(1)
    forged = (topic, data[:-1] + bytes([data[-1] ^ 1]))
    unknown = ("edge/1/default/ghost/up/window", data)

    site.after(1, *[forged] * 4, *[unknown] * 5)
    assert [*site.open()] == [("mac_failures", "unknown")]
    site.after(1, forged)
    assert {subject for _, subject in site.open()} == {"unknown", "watch-1"}
    site.after(2 * 3600)
    site.after(301)
    assert site.open() == {}


def test_a_sensor_fault_lasts_until_the_device_says_it_is_over(site: Alerts) -> None:
    device = site.world.device()
    where: dict[str, Scalar] = {"slot": "main", "feature": "ax", "rule": "stuck"}
    told = event(device, 1, "sensor_fault", "error", **where, share_ppm=600_000)

    site.after(1, told, told)

    found = site.open()
    assert [*found] == [("sensor_fault", "watch-1/main.ax stuck")]
    title = found["sensor_fault", "watch-1/main.ax stuck"]["title"]
    assert title == "watch-1 main.ax stuck: a sensor is broken: 60.0% of rows"
    site.after(100, device.window(2), event(device, 3, "sensor_ok", "info", **where))
    site.after(300, device.window(4))
    assert site.open() == {}
    assert site.queued() == [("sensor_fault", "opened"), ("sensor_fault", "closed")]


def test_own_limits_and_accuracy_drop(site: Alerts) -> None:
    device = site.world.device()
    drop = event(
        device,
        1,
        "accuracy_drop",
        "warning",
        slot="main",
        n=500,
        error_ppm=300_000,
        error_ppm_before=100_000,
    )
    site.after(1, drop, event(device, 2, "limit.memory", "warning"))
    found = site.open()
    assert {rule for rule, _ in found} == {"accuracy_drop", "limit"}
    assert "10.0% before, 30.0% now" in found["accuracy_drop", "watch-1/main"]["title"]

    site.after(1, event(device, 3, "limit.memory", "info"))
    for seq in range(4, 4 + 30):
        site.after(3600, device.window(seq))
    assert site.open() == {}


def test_events_are_read_once_over_a_kill(site: Alerts) -> None:
    device = site.world.device()
    where: dict[str, Scalar] = {"slot": "main", "feature": "ax", "rule": "stuck"}
    site.after(1, event(device, 1, "sensor_fault", "error", **where))
    site.after(1, event(device, 2, "sensor_ok", "info", **where))
    site.restart()
    site.after(1)
    site.after(301, device.window(3))

    assert site.open() == {}
    assert site.queued() == [("sensor_fault", "opened"), ("sensor_fault", "closed")]


def test_events_with_odd_fields_stop_nothing(site: Alerts) -> None:
    device = site.world.device()
    odd = (
        event(device, 1, "sensor_fault", "error"),
        event(device, 2, "accuracy_drop", "info", error_ppm="x", slot=None),
        event(device, 3, "sensor_fault", "error", slot="s" * 900, feature=True),
        event(device, 4, "limit.disk", "error", slot=-1),
    )
    site.after(1, *odd)

    assert len(site.open()) == 4


def test_rollouts_verdicts_and_updates_are_read_from_their_tables(
    site: Alerts,
) -> None:
    now_us = site.world.clock.now_us
    with writing(site.world.engine) as connection:
        connection.execute(
            insert(rollouts).values(
                id="r1",
                fleet="default",
                slot="main",
                digest="00" * 32,
                target_path="t",
                release_counter=1,
                salt="s",
                state="held",
                reason="too many failures",
                settings={},
                created_us=now_us,
                created_by="admin",
                updated_us=now_us,
            )
        )
        for kind, subject in (("world", "world"), ("season", "season")):
            connection.execute(
                insert(verdicts).values(
                    subject=subject,
                    fleet="default",
                    ref_id=bytes(8),
                    kind=kind,
                    provisional=False,
                    opened_us=now_us,
                    evidence={"summary": "The whole fleet moved.", "next_step": "ask"},
                )
            )
        connection.execute(
            insert(update_reports).values(
                device="watch-1",
                boot_id=bytes(8),
                seq=1,
                received_us=now_us,
                digest="",
                state="DOWNLOADING",
                body={},
            )
        )

    site.after(6 * 3600 + 1)
    found = site.open()
    assert set(found) == {
        ("rollout", "r1"),
        ("drift_world", "world"),
        ("update_stuck", "watch-1"),
    }
    assert found["rollout", "r1"]["title"] == "rollout r1 is held: too many failures"

    with writing(site.world.engine) as connection:
        connection.execute(update(rollouts).values(state="running"))
        connection.execute(update(verdicts).values(closed_us=now_us))
        connection.execute(update(update_reports).values(state="DEFERRED"))
    site.after(1)
    site.after(301)
    assert site.open() == {}


def test_old_alerts_are_forgotten_with_all_about_them(site: Alerts) -> None:
    device = site.world.device()
    site.after(1, device.window(1))
    site.after(901)
    site.after(1, device.window(2))
    site.after(301, device.window(3))
    assert len(site.queued()) == 2

    site.after(91 * 86400, device.window(4))

    assert site.queued() == []
