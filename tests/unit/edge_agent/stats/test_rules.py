# SPDX-License-Identifier: Apache-2.0
"""What counts as a broken sensor, when it is told, and when it is over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.stats.checkpoint import ProducedCounter
from edge_agent.stats.rules import Change, Fault, Seen, SensorWatch
from edge_contract.profile import ReferenceProfile
from tests.support.agent_doubles import MemoryLedger, Observation
from tests.support.keepers import GRID, RELEASE, make_keeper, record
from tests.support.small_profile import small_profile

SECOND = 1_000_000
Batch = dict[str, float]


def profile_with(**changes: object) -> ReferenceProfile:
    profile = small_profile()
    first, *rest = profile.features
    told = {"repeat_ppm": 0} | changes
    return replace(profile, features=(replace(first, **told), *rest))  # type: ignore[arg-type]


def watch_batches(
    profile: ReferenceProfile, batches: list[Batch], rows: int = 100
) -> list[list[Change]]:
    """Feed shares of the first feature, one batch a second."""
    watch, seen = SensorWatch(), empty(profile)
    watch.look(seen, 0)
    found = []
    for number, batch in enumerate(batches, 1):
        seen = add(seen, rows, batch)
        found.append(watch.look(seen, number * SECOND))
    return found


def empty(profile: ReferenceProfile) -> Seen:
    zeros = np.zeros(len(profile.features), dtype=np.int64)
    return Seen(profile, 0, zeros, zeros, zeros)


def add(seen: Seen, rows: int, shares: Batch) -> Seen:
    def grown(name: str) -> np.ndarray:
        more = np.zeros(len(seen.profile.features), dtype=np.int64)
        more[0] = round(shares.get(name, 0) * rows)
        total: np.ndarray = getattr(seen, name) + more
        return total

    return replace(
        seen,
        rows=seen.rows + rows,
        missing=grown("missing"),
        outside=grown("outside"),
        repeated=grown("repeated"),
    )


def words(found: list[list[Change]]) -> list[str]:
    return [
        " ".join(f"{'ok' if one.is_over else one.fault.rule}" for one in changes)
        for changes in found
    ]


@pytest.mark.parametrize(
    ("part", "rule", "bad"),
    [
        ("missing", "missing", 0.2),
        ("outside", "out_of_range", 0.4),
        ("repeated", "stuck", 0.8),
    ],
)
def test_a_share_above_its_limit_in_two_batches_is_a_fault(
    part: str, rule: str, bad: float
) -> None:
    found = watch_batches(
        profile_with(), [{}, {part: bad}, {part: bad}, {part: bad}, {}, {}, {}]
    )

    assert words(found) == ["", "", rule, "", "", "ok", ""]
    (change,) = found[2]
    assert change.fault == Fault("f0", rule, round(bad * 1e6), 100)


def test_what_is_nearly_all_bad_is_told_at_once() -> None:
    found = watch_batches(profile_with(), [{"missing": 1.0}])

    assert words(found) == ["missing"]


def test_one_odd_batch_is_no_fault_and_one_good_one_ends_none() -> None:
    bad: Batch = {"missing": 0.3}

    found = watch_batches(profile_with(), [bad, {}, bad, {}, bad, bad, {}, bad, {}])

    assert words(found) == ["", "", "", "", "", "missing", "", "", ""]


def test_a_share_between_the_limits_changes_nothing() -> None:
    middle: Batch = {"missing": 0.05}
    bad: Batch = {"missing": 0.3}

    assert words(watch_batches(profile_with(), [middle] * 6)) == [""] * 6
    found = watch_batches(profile_with(), [bad, bad] + [middle] * 4)
    assert words(found) == ["", "missing", "", "", "", ""]


def test_what_the_reference_missed_too_is_no_fault() -> None:
    often = profile_with(missing=160)  # as many as it has values

    assert words(watch_batches(often, [{"missing": 0.5}] * 3)) == ["", "", ""]


def test_a_sensor_that_often_repeats_is_stuck_after_a_long_run_only() -> None:
    slow = profile_with(repeat_ppm=900_000, longest_run=25)

    found = watch_batches(slow, [{"repeated": 0.97}] * 3 + [{"repeated": 1.0}] * 3)

    assert words(found) == ["", "", "", "", "", "stuck"]


def test_a_profile_that_tells_no_repeats_asks_for_a_very_long_run() -> None:
    old = profile_with(repeat_ppm=None)

    found = watch_batches(old, [{"repeated": 1.0}] * 7)

    assert words(found) == ["", "", "", "", "", "", "stuck"]


@pytest.mark.parametrize(
    "change",
    [
        {"sd": 0.0},
        {"edges": np.array([0.5], np.float32), "counts": np.array([80, 80])},
        {
            "edges": np.zeros(0, np.float32),
            "categories": np.arange(15, dtype=np.float32),
        },
    ],
    ids=["constant", "flag", "category"],
)
def test_what_stays_by_its_nature_is_never_stuck(change: dict[str, object]) -> None:
    found = watch_batches(profile_with(**change), [{"repeated": 1.0}] * 9)

    assert words(found) == [""] * 9


def test_a_camera_is_frozen_only_when_all_of_a_frame_repeats() -> None:
    profile = replace(profile_with(repeat_ppm=None), kind="image")
    watch, seen = SensorWatch(), empty(profile)
    watch.look(seen, 0)
    for number in range(1, 9):
        seen = add(seen, 100, {"repeated": 1.0})  # the dark share alone
        assert watch.look(seen, number * SECOND) == []

    found: list[Change] = []
    for number in range(9, 16):
        seen = replace(seen, rows=seen.rows + 100, repeated=seen.repeated + 100)
        found += watch.look(seen, number * SECOND)
    assert [one.fault.rule for one in found] == ["stuck"]


def test_small_batches_wait_for_enough_rows() -> None:
    found = watch_batches(profile_with(), [{"missing": 1.0}] * 4, rows=20)

    assert words(found) == ["", "", "", "missing"]
    assert found[3][0].fault.rows == 80


def test_a_source_that_stalls_is_told_after_ten_seconds_and_once() -> None:
    watch, seen = SensorWatch(rows_per_second=50.0), empty(profile_with())
    found = []
    for second in range(60):
        if not 10 <= second < 40:
            seen = add(seen, 50, {})
        found += [
            (second, one.is_over, one.fault.share_ppm)
            for one in watch.look(seen, second * SECOND)
        ]

    assert [(second, is_over) for second, is_over, _ in found] == [
        (20, False),
        (50, True),
    ]
    assert found[0][2] < 200_000


def test_a_slow_source_is_given_time_for_twenty_rows() -> None:
    watch, seen = SensorWatch(rows_per_second=0.1), empty(profile_with())
    watch.look(seen, 0)

    assert watch.look(seen, 199 * SECOND) == []
    (change,) = watch.look(seen, 200 * SECOND)
    assert change.fault == Fault("", "rate", 0, 0)


def test_nobody_promised_nothing_is_missed() -> None:
    watch, seen = SensorWatch(), empty(profile_with())

    assert [watch.look(seen, second * SECOND) for second in range(40)] == [[]] * 40


def test_another_model_starts_over_and_ends_what_it_does_not_have() -> None:
    old, new = profile_with(), small_profile(1)
    gone = Fault("f1", "missing", 1_000_000, 100)
    kept = Fault("f0", "missing", 1_000_000, 100)
    watch = SensorWatch(faults={(one.feature, one.rule): one for one in (gone, kept)})
    watch.look(empty(old), 0)

    changes = watch.look(empty(new), SECOND)

    assert changes == [Change(gone, is_over=True)]
    assert list(watch.faults.values()) == [kept]


def test_what_was_seen_goes_on_over_closed_windows_and_begins_at_a_restart(
    tmp_path: Path,
) -> None:
    ledger, profile = MemoryLedger(), small_profile()
    counter = ProducedCounter(tmp_path / "produced.counter")
    keeper = make_keeper(ledger, counter)
    keeper.prepare(profile, RELEASE, GRID)()
    rows = np.array([[np.nan, 9], [0, 0], [0, -9], [1, 0]], np.float32)
    output = np.array([1, 0, 0], np.float32)
    for number in range(40):
        times = np.arange(4, dtype=np.int64) * 1000 + number * 4000
        record(keeper, Observation("a", number == 0, rows, times, output, 1))
    keeper.stop()

    seen = keeper.seen
    assert seen is not None
    assert len(ledger.reports) == 2
    assert seen.rows == 160
    assert seen.missing.tolist() == [40, 0]
    assert seen.outside.tolist() == [0, 80]
    assert seen.repeated.tolist() == [40, 0]

    again = make_keeper(ledger, counter)
    again.prepare(profile, RELEASE, GRID)()
    again.flush()
    seen = again.seen
    assert seen is not None
    assert (seen.rows, int(seen.missing.sum())) == (0, 0)
