# SPDX-License-Identifier: Apache-2.0
"""The rule for fleets of fewer than eight devices."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from edge_contract.window import StatisticsBuilder, WindowStatistics
from fleet.drift.cusum import Cusum
from fleet.drift.decide import find_drift, gates, is_back
from fleet.drift.device import DeviceState, observe
from fleet.drift.documents import DriftDocuments
from fleet.drift.errors import DriftStateError
from fleet.drift.parameters import DriftParameters
from fleet.drift.state_codec import decode_state, encode_state
from fleet.drift.track import Place, Track, decode_track, encode_track, is_late
from fleet.drift.words import describe_finding, evidence_document
from fleet.drift.yardstick import Yardstick
from fleet.store.engine import reading
from fleet.store.tables import drift_states, verdicts
from tests.support.drift_fleet import DriftFleet, normal_profile

PROFILE = normal_profile()
YARDSTICK = Yardstick.read(PROFILE)
PARAMETERS = DriftParameters()


def some(seed: int, rows: int = 50, shift: float = 0.0) -> WindowStatistics:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 2)).astype(np.float32)
    values[:, 0] += shift
    builder = StatisticsBuilder(PROFILE)
    builder.add_rows(values)
    return builder.statistics


def live(windows: int, shift: float = 0.0, seed: int = 0) -> DeviceState:
    series = [(some(seed + one, shift=shift), 1) for one in range(windows)]
    return observe(DeviceState.start(YARDSTICK), series, YARDSTICK, PARAMETERS)


def test_windows_are_summed_to_units_of_the_profile() -> None:
    state = live(5)

    assert (state.units, state.windows, state.open_windows) == (2, 5, 1)
    assert state.open_statistics.rows == 50
    assert len(state.waiting) == PARAMETERS.join_age_units


@given(st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=20, deadline=None)
def test_the_state_does_not_depend_on_how_windows_are_fed(cuts: list[bool]) -> None:
    series = [(some(one), 1) for one in range(6)]
    whole = observe(DeviceState.start(YARDSTICK), series, YARDSTICK, PARAMETERS)
    state, waiting = DeviceState.start(YARDSTICK), []
    for one, cut in zip(series, cuts, strict=True):
        waiting.append(one)
        if cut:
            state = observe(state, waiting, YARDSTICK, PARAMETERS)
            waiting = []
    state = observe(state, waiting, YARDSTICK, PARAMETERS)

    assert encode_state(state) == encode_state(whole)


def test_a_lasting_shift_is_found_and_says_by_how_much() -> None:
    findings = find_drift(
        {"moved": (live(40, shift=1.5), YARDSTICK), "still": (live(40), YARDSTICK)},
        PARAMETERS,
    )

    assert set(findings) == {"moved"}
    (move,) = findings["moved"].features
    assert (move.name, move.channel) == ("f0", "location")
    assert move.shift == pytest.approx(1.5, abs=0.15)
    assert findings["moved"].streams == 4


def test_a_shift_that_does_not_matter_is_no_finding() -> None:
    pool = {"one": (live(60, shift=0.5), YARDSTICK)}

    assert pool["one"][0].cusum.e_values().max() > 1e6
    assert find_drift(pool, PARAMETERS) == {}
    assert find_drift({}, PARAMETERS) == {}


def test_a_spread_that_shrinks_is_named_as_scale() -> None:
    random = np.random.default_rng(3)
    series = []
    for _ in range(40):
        builder = StatisticsBuilder(PROFILE)
        values = random.normal(size=(50, 2)) * np.array([0.3, 1.0])
        builder.add_rows(values.astype(np.float32))
        series.append((builder.statistics, 1))
    state = observe(DeviceState.start(YARDSTICK), series, YARDSTICK, PARAMETERS)

    finding = find_drift({"one": (state, YARDSTICK)}, PARAMETERS)["one"]

    assert {(one.name, one.channel) for one in finding.features} == {("f0", "scale")}


def test_a_judged_device_is_back_after_quiet_units() -> None:
    assert not is_back(live(2), YARDSTICK, PARAMETERS)
    assert is_back(live(20), YARDSTICK, PARAMETERS)
    assert not is_back(live(20, shift=1.5), YARDSTICK, PARAMETERS)


def test_own_history_joins_late_and_drift_does_not() -> None:
    assert live(2).baseline.units == 0
    assert live(12).baseline.units == 4
    assert live(40, shift=1.5).baseline.units == 0


def test_gates_grow_with_the_spread_between_groups() -> None:
    wide = replace(YARDSTICK, between=np.full((2, 2), 4.0))

    assert gates(YARDSTICK, PARAMETERS).tolist() == [[0.6, 0.6], [0.5, 0.5]]
    assert gates(wide, PARAMETERS).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_a_state_survives_its_bytes_to_the_last_bit() -> None:
    state = live(15, shift=0.4)

    assert encode_state(decode_state(encode_state(state), PROFILE)) == encode_state(
        state
    )


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xa1\x01\x02", b"x" * 100])
def test_damaged_states_are_named_not_believed(data: bytes) -> None:
    with pytest.raises(DriftStateError, match="cannot be read"):
        decode_state(data, PROFILE)
    with pytest.raises(DriftStateError, match="cannot be read"):
        decode_track(data, PROFILE)


def test_a_state_of_another_profile_is_refused() -> None:
    with pytest.raises(DriftStateError):
        decode_state(encode_state(live(5)), normal_profile(features=3))


def test_a_track_keeps_its_place_and_knows_a_late_window() -> None:
    track = Track(PROFILE.ref_id, bytes(8), 7, live(3))
    again = decode_track(encode_track(track), PROFILE)
    former = Place(b"12345678", bytes(8), 6, 1)

    assert (again.boot_id, again.seq) == (bytes(8), 7)
    assert is_late(again, former)
    assert not is_late(again, replace(former, seq=8))
    assert not is_late(again, replace(former, boot_id=b"another "))
    assert not is_late(again, replace(former, ref_id=PROFILE.ref_id))
    assert not is_late(None, former)


def test_a_merged_window_has_the_place_of_the_first_it_covers() -> None:
    row = {"ref_id": b"r", "boot_id": b"b", "seq": 9, "covers": [3, 4, 5, 6]}

    assert Place.of(row) == Place(b"r", b"b", 3, 3)
    assert Place.of({**row, "covers": []}) == Place(b"r", b"b", 9, 1)


def test_words_and_document_say_the_same() -> None:
    state = live(40, shift=1.5)
    finding = find_drift({"w": (state, YARDSTICK)}, PARAMETERS)["w"]
    document = evidence_document("w", finding, state, 100, PARAMETERS)

    assert document["summary"] == describe_finding("w", finding)
    assert "f0: mean 1.5 sd higher" in document["summary"]
    assert document["features"][0]["size"] == "large"
    assert document["streams"] == 2


def test_evidence_starts_at_nothing() -> None:
    state = Cusum.start(2)

    assert state.quiet(0.0)
    assert state.e_values().tolist() == [1.0, 1.0]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[DriftFleet]:
    fleet = DriftFleet(tmp_path, devices=3)
    yield fleet
    fleet.engine.dispose()


def read_rows(fleet: DriftFleet, table: Any) -> list[dict[str, Any]]:
    with reading(fleet.engine) as connection:
        rows = connection.execute(select(table)).mappings().all()
    return [dict(one) for one in rows]


def test_a_small_fleet_flags_closes_and_restarts_the_same(tmp_path: Path) -> None:
    kept = []
    for number, restarts in enumerate((False, True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        fleet = DriftFleet(folder, devices=3)
        engine = fleet.drift()
        fleet.store(20)
        engine.tick()
        for shift, slots in ((1.5, 20), (0.0, 40)):
            for _ in range(slots):
                fleet.store(1, {"d1": shift})
                engine = fleet.drift() if restarts else engine
                engine.tick()
        rows = read_rows(fleet, verdicts)
        kept.append(([{**one} for one in rows], read_rows(fleet, drift_states)))
        fleet.engine.dispose()

    assert kept[0] == kept[1]
    (verdict,) = kept[0][0]
    assert (verdict["device"], verdict["kind"], verdict["slot"]) == (
        "d1",
        "device",
        None,
    )
    assert verdict["close_reason"] == "back at its baseline"


def test_damaged_windows_and_states_do_not_stop_a_small_fleet(
    fleet: DriftFleet,
) -> None:
    fleet.store(4)
    fleet.drift().tick()
    with fleet.engine.begin() as connection:
        connection.execute(drift_states.update().values(state=b"torn"))
    fleet.insert([fleet.row("d0", fleet.slot, some(1), counts=b"\x01")])
    fleet.store(4)
    engine = fleet.drift()
    engine.tick()

    with reading(fleet.engine) as connection:
        whole = DriftDocuments(engine, PARAMETERS).read_fleet(connection)
    assert {one["device"]: one["windows"] for one in whole["devices"]} == {
        "d0": 4,
        "d1": 4,
        "d2": 4,
    }
    assert whole["verdicts"] == []


LEVEL, SD = (-0.9, 0.5, 0.3), 0.4


def wrist_fleet(folder: Path) -> DriftFleet:
    """Return three watches with an accelerometer, after a while of history."""
    profile = replace(normal_profile(3, LEVEL, SD), triads=((0, 1, 2),))
    fleet = DriftFleet(folder, devices=3, profile=profile)
    wear(fleet, 30)
    return fleet


def wear(fleet: DriftFleet, slots: int, factor: float = 1.0, clip: float = 9.0) -> None:
    """Store windows of all; what d1 measures is scaled and limited."""
    random = np.random.default_rng(fleet.slot)
    engine = fleet.drift()
    for _ in range(slots):
        rows = []
        for name in fleet.names:
            values = random.normal(size=(40, 3)) * SD + np.array(LEVEL)
            if name == "d1":
                values = np.clip(values * factor, -clip, clip)
            builder = StatisticsBuilder(fleet.profile)
            builder.add_rows(values.astype(np.float32))
            rows.append(fleet.row(name, fleet.slot, builder.statistics))
        fleet.slot += 1
        fleet.insert(rows)
        engine.tick()


def test_half_the_gain_is_a_sensor_fault_that_heals(tmp_path: Path) -> None:
    fleet = wrist_fleet(tmp_path)
    wear(fleet, 20, factor=0.5)

    rows = read_rows(fleet, verdicts)
    (verdict,) = [one for one in rows if one["closed_us"] is None]
    assert (verdict["device"], verdict["kind"]) == ("d1", "sensor_fault")
    assert verdict["evidence"]["summary"].startswith(
        "A sensor of d1 is broken: the gain of f0, f1, f2 is 0."
    )
    assert verdict["evidence"]["next_step"] == "look at d1 on site"
    assert {one["device"] for one in rows} == {"d1"}

    wear(fleet, 40)
    assert [
        one["device"] for one in read_rows(fleet, verdicts) if not one["closed_us"]
    ] == []
    fleet.engine.dispose()


def test_saturation_is_counted_and_does_not_close_while_it_lasts(
    tmp_path: Path,
) -> None:
    fleet = wrist_fleet(tmp_path)
    wear(fleet, 40, clip=0.8)

    (verdict,) = read_rows(fleet, verdicts)
    assert (verdict["kind"], verdict["closed_us"]) == ("sensor_fault", None)
    (move,) = verdict["evidence"]["features"]
    assert (move["name"], move["channel"]) == ("f0", "saturated")
    assert 0.1 <= move["shift"] <= 0.6

    wear(fleet, 20)
    (verdict,) = read_rows(fleet, verdicts)
    assert verdict["close_reason"] == "back at its baseline"
    fleet.engine.dispose()
