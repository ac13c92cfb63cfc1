# SPDX-License-Identifier: Apache-2.0
"""The sensors source on this machine: real values, rates, and what is missing."""

import math
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_agent.config.sources import SensorsSourceConfig
from edge_agent.config.units import Duration
from edge_agent.errors import SourceError
from edge_agent.flow import Chunk, Grid
from edge_agent.sources import sensors
from edge_agent.sources.sensors import LEVELS, RATES, SensorsSource
from tests.support.agent_doubles import ManualClock


def opened(*fields: str, interval_us: int = 10_000) -> SensorsSource:
    config = SensorsSourceConfig(fields, interval=Duration(interval_us))
    return SensorsSource(config, ManualClock())


def take(source: SensorsSource, count: int) -> list[Chunk]:
    grid = Grid(1, 1, source.features or 0)
    found: list[Chunk] = []
    while len(found) < count:
        chunk = source.read(grid)
        found += [] if chunk is None else [chunk]
    return found


def test_values_are_the_machines() -> None:
    source = opened("memory_percent", "disk_percent", "processes", "load_1")
    (chunk,) = take(source, 1)
    memory, disk, processes, load = chunk.rows[0].tolist()
    source.close()

    assert memory == pytest.approx(psutil.virtual_memory().percent, abs=10)
    assert disk == pytest.approx(psutil.disk_usage("/").percent, abs=1)
    assert processes >= 1
    assert load >= 0
    assert chunk.is_start
    assert source.features == 4


def test_a_rate_is_missing_first_and_then_over_the_time_between() -> None:
    source = opened("switches", "cpu_percent")
    first, *later = take(source, 4)
    source.close()

    assert all(math.isnan(one) for one in first.rows[0].tolist())
    assert all(one.rows[0, 0] >= 0 for one in later)
    assert max(float(one.rows[0, 0]) for one in later) > 0
    assert all(one.rows[0, 1] >= 0 for one in later)
    assert [one.is_start for one in later] == [False] * 3


def test_every_field_gives_a_number_or_nan() -> None:
    fields = [*LEVELS, *RATES, "disk_percent", "temperature:no-such-chip"]
    source = opened(*fields)
    _, chunk = take(source, 2)
    source.close()
    found = dict(zip(fields, chunk.rows[0].tolist(), strict=True))
    assert not any(math.isinf(one) for one in found.values())
    assert math.isnan(found["temperature:no-such-chip"])
    assert source.account["missing temperature:no-such-chip"] == 2
    assert not math.isnan(found["net_receive"])


def test_a_sensor_that_fails_is_a_missing_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> Any:
        raise OSError("no such device")

    monkeypatch.setattr(psutil, "getloadavg", fail)
    source = opened("load_1", "memory_percent")
    (chunk,) = take(source, 1)
    source.close()
    assert math.isnan(chunk.rows[0, 0])
    assert not math.isnan(chunk.rows[0, 1])
    assert source.account["problem"] == "load_1: no such device"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SourceError, match=r"expected fields of .*load_1.* 'weather'"):
        opened("load_1", "weather")
    with pytest.raises(SourceError, match="found none"):
        opened()
    source = opened("load_1")
    with pytest.raises(SourceError, match="expected rows of 3 values, found 1 fields"):
        source.read(Grid(1, 1, 3))
    source.close()
    assert SensorsSourceConfig(("load_1",)).disk == Path("/")


def test_close_wakes_a_waiting_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "POLL_SECONDS", 60.0)
    source = opened("load_1", interval_us=60_000_000)
    take(source, 1)
    found: list[Chunk | None] = []
    reader = threading.Thread(target=lambda: found.append(source.read(Grid(1, 1, 1))))
    reader.start()
    source.close()
    reader.join(10)
    assert found == [None]
