# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_contract.window import StatisticsBuilder, WindowStatistics
from fleet.drift.fleetwide.feed import SlotFeed, Window
from fleet.drift.fleetwide.itemsets import find_common_tags
from fleet.drift.fleetwide.rule import FleetRule
from fleet.drift.fleetwide.scale import Scale, Slot
from fleet.drift.fleetwide.state import FleetState
from tests.support.drift_fleet import FIRST_SLOT, normal_profile

PROFILE = normal_profile()
SCALE = Scale.read(PROFILE)
DEVICES = [f"d{number}" for number in range(9)]


class NoWindows:
    def sum_counts(self, device: int, since: int, until: int) -> None:
        del device, since, until

    def accuracy_loss(self, device: int, since: int, until: int) -> None:
        del device, since, until


def statistics(
    seed: int, rows: int = 30, value: float | None = None
) -> WindowStatistics:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 2)).astype(np.float32)
    if value is not None:
        values[:] = value
    builder = StatisticsBuilder(PROFILE)
    builder.add_rows(values)
    return builder.statistics


def window(number: int, device: str, slot: int, **changes: object) -> Window:
    one = Window(
        number,
        device,
        FIRST_SLOT + slot,
        "r1",
        is_trusted=True,
        statistics=statistics(number),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def new_feed() -> tuple[SlotFeed, FleetState]:
    state = FleetState(2)
    return SlotFeed(PROFILE, SCALE, state), state


def total_rows(slots: list[Slot]) -> int:
    return int(sum(slot.rows[0].sum() for slot in slots))


@pytest.mark.slow
@settings(deadline=None)
@given(st.permutations(range(36)), st.integers(1, 3))
def test_every_window_is_in_one_slot_or_counted_as_refused(
    order: list[int], copies: int
) -> None:
    feed, state = new_feed()
    slots: list[Slot] = []
    sent = 0
    for number in order:
        for copy in range(copies):
            one = window(
                number * 10 + copy, DEVICES[number % 9], number // 9, statistics=SMALL
            )
            for slot in feed.take(one, {}):
                slots.append(slot)
                state.slot = slot.number
            sent += 1

    held = len(feed.pending_ids)
    refused = sum(state.refused.values())
    assert total_rows(slots) // 30 + held + refused == sent
    numbers = [slot.number for slot in slots]
    assert numbers == sorted(set(numbers))


SMALL = statistics(0)


def test_two_windows_of_a_slot_are_their_sum() -> None:
    feed, state = new_feed()
    state.slot = FIRST_SLOT - 1
    feed.take(window(1, "d0", 0), {})
    feed.take(window(2, "d0", 0), {})

    (slot,) = feed.take(window(3, "d0", 2), {})

    expected = sum(int(statistics(one).counts[:16].sum()) for one in (1, 2))
    assert slot.rows[0].tolist() == [float(expected)]
    assert slot.counts[0].sum() == expected


def test_one_mad_clock_neither_hurries_nor_holds_the_fleet() -> None:
    feed, state = new_feed()
    closed: list[int] = []
    number = 0
    for slot in range(5):
        for device in DEVICES:
            ahead = 200 if device == "d0" else 0
            number += 1
            for one in feed.take(window(number, device, slot + ahead), {}):
                closed.append(one.number - FIRST_SLOT)
                state.slot = one.number

    assert closed == [0, 1, 2]


@pytest.mark.parametrize(
    ("slot", "reason"), [(-12, "late"), (2**40, "clock"), (1000, "ahead")]
)
def test_what_cannot_be_used_is_counted_with_its_reason(slot: int, reason: str) -> None:
    feed, state = new_feed()
    for number, device in enumerate(DEVICES):
        feed.take(window(number, device, 0), {})
        feed.take(window(number + 100, device, 2), {})
    state.slot = FIRST_SLOT

    feed.take(window(999, "d3", slot), {})

    assert state.refused == {reason: 1}


def test_a_window_up_to_an_hour_late_counts_in_the_open_slot() -> None:
    feed, state = new_feed()
    state.slot = FIRST_SLOT
    feed.take(window(1, "d0", 1, release="r2"), {})
    feed.take(window(2, "d1", 1), {})
    for late in range(-11, 1):
        feed.take(window(100 + late, "d0", late), {})

    # A kill: what waits is put again, the late ones last.
    again = SlotFeed(PROFILE, SCALE, state)
    sent = {1: window(1, "d0", 1, release="r2"), 2: window(2, "d1", 1)}
    sent |= {100 + late: window(100 + late, "d0", late) for late in range(-11, 1)}
    held = [sent[number] for number in feed.pending_ids]
    for one in sorted(held, key=again.is_late):
        again.put(one)
    found = []
    for made in (feed, again):
        closed = [
            one
            for device in DEVICES[2:7]
            for one in made.take(window(900, device, 3), {})
        ]
        found.append(closed[0])

    for slot in found:
        assert slot.number == FIRST_SLOT + 1
        assert slot.rows[0].tolist() == [30 * 13.0, 30.0]
        assert slot.release == ("r2", "r1")
    assert state.refused == {}


@pytest.mark.slow
@pytest.mark.parametrize("value", [1e30, -1e30, 0.0])
def test_mad_and_constant_values_leave_every_other_device_alone(value: float) -> None:
    states = []
    for odd in (None, value):
        state = FleetState(2)
        feed = SlotFeed(PROFILE, SCALE, state)
        rule = FleetRule(SCALE, state)
        number = 0
        for slot in range(320):
            for device in DEVICES:
                number += 1
                content = statistics(number, value=odd if device == "d4" else None)
                one = window(number, device, slot, statistics=content)
                for ready in feed.take(one, {}):
                    rule.advance(ready, NoWindows())
        states.append(state)

    plain, mad = states
    others = [place for place in range(9) if place != 4]
    assert np.isfinite(mad.evidence.log).all()
    assert np.isfinite(mad.history.sums).all()
    counts = plain.history.counts[..., others], mad.history.counts[..., others]
    assert counts[0].tolist() == counts[1].tolist()
    assert not [one for one in mad.judged if one != 4]


def test_planted_itemsets_are_found_in_thirty_of_thirty() -> None:
    right = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        tags = [
            {
                "hw": f"h{random.integers(4)}",
                "fw": f"f{random.integers(3)}",
                "site": f"s{random.integers(10)}",
                "camera": f"c{random.integers(2)}",
            }
            for _ in range(1000)
        ]
        planted = [
            place
            for place, one in enumerate(tags)
            if one["hw"] == "h1" and one["fw"] == "f2"
        ]
        flagged = [one for one in planted if random.random() < 0.8]
        flagged += [int(one) for one in np.flatnonzero(random.random(1000) < 0.01)]
        found = find_common_tags(tags, flagged)
        right += found is not None and found.items == (("fw", "f2"), ("hw", "h1"))

    assert right == 30


def test_a_few_flagged_devices_have_nothing_in_common() -> None:
    tags = [{"hw": "a"}] * 100

    assert find_common_tags(tags, range(4)) is None
    assert find_common_tags(tags, range(50)) is None
