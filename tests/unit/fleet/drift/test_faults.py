# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np

from fleet.drift.fleetwide.arrays import Real
from fleet.drift.fleetwide.faults import REASONS, FaultMemory, find_faults
from fleet.drift.fleetwide.scale import Scale, Slot
from tests.support.drift_fleet import normal_profile

SCALE = Scale.read(normal_profile(features=1))
DEVICES = 10
LEARNING = np.ones(DEVICES, dtype=bool)
SETTLED = ~LEARNING


def counter(values: dict[int, float] | None) -> Real:
    array = np.zeros((1, DEVICES), dtype=np.float32)
    for device, rows in (values or {}).items():
        array[0, device] = rows
    return array


def slot(
    missing: dict[int, float] | None = None,
    outside: dict[int, float] | None = None,
    repeat: dict[int, float] | None = None,
) -> Slot:
    """A slot of 100 rows a device; a counter names devices and rows."""
    nothing = counter(None)
    return Slot(
        number=1,
        devices=np.arange(DEVICES),
        rows=100 - counter(missing),
        mean=nothing,
        log_variance=nothing,
        counts=np.zeros((1, 16, DEVICES), dtype=np.float32),
        missing=counter(missing),
        outside=counter(outside),
        repeat=counter(repeat),
        release=("r",) * DEVICES,
        trusted=np.ones(DEVICES, dtype=bool),
    )


def learnt(
    missing: dict[int, float] | None = None, repeat: dict[int, float] | None = None
) -> FaultMemory:
    memory = FaultMemory.start(1, DEVICES)
    for _ in range(25):
        find_faults(memory, slot(missing, None, repeat), SCALE, LEARNING)
    return memory


def found(memory: FaultMemory, one: Slot, scale: Scale = SCALE) -> set[tuple[str, int]]:
    faults = find_faults(memory, one, scale, SETTLED)
    return {(REASONS[reason], device) for reason, _, device in np.argwhere(faults)}


def test_a_share_must_last_two_windows() -> None:
    memory = learnt()

    assert found(memory, slot(missing={3: 30})) == set()
    assert found(memory, slot(missing={3: 30})) == {("missing", 3)}
    assert found(memory, slot()) == set()
    assert found(memory, slot(missing={3: 30})) == set()


def test_what_is_usual_for_a_device_is_no_fault() -> None:
    memory = learnt(missing={3: 4}, repeat={4: 30})

    for _ in range(3):
        assert found(memory, slot(missing={3: 8}, repeat={4: 60})) == set()


def test_a_few_repeats_that_never_were_are_saturation_at_once() -> None:
    memory = learnt(repeat={4: 1})

    assert found(memory, slot(repeat={3: 5, 4: 5})) == {("saturated", 3)}


def test_what_many_devices_show_is_no_broken_sensor() -> None:
    memory = learnt()
    many = dict.fromkeys(range(4), 60.0)

    for _ in range(3):
        assert found(memory, slot(outside=many)) == set()


def test_a_constant_feature_of_the_whole_fleet_is_learnt_as_usual() -> None:
    every = dict.fromkeys(range(DEVICES), 99.0)
    memory = learnt(repeat=every)

    assert float(memory.rows.min()) == 2500.0
    for _ in range(3):
        assert found(memory, slot(repeat=every)) == set()


def test_a_feature_of_few_values_may_repeat() -> None:
    few = replace(SCALE, width=np.array([3]))
    memory = learnt()

    for _ in range(3):
        assert found(memory, slot(repeat={2: 99}), few) == set()
