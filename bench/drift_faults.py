# SPDX-License-Identifier: Apache-2.0
"""Claim: on real wrists a broken sensor is named for what it is, an odd wearer is not.

Owns the experiment: of six live wearers one has a sensor that breaks, in four ways, and
each wearer in turn; the rule that the server runs must say which. An arm that is
changed for the other must not be called a fault. Then two wearers whom no model has
seen wear watches without a history: nothing may be said of them. The limits of the rule
were chosen on these wearers, in other orders of their recordings.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.drift_watch import (
    AFTER_WINDOWS,
    Window,
    emit_windows,
    read_profile,
    shuffle,
    summarise,
)
from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.document import summarise as summarise_samples
from examples.watch.data import (
    HELD_OUT_SUBJECTS,
    LIVE_SUBJECTS,
    SPARE_SUBJECTS,
    Recording,
    load_recordings,
    select,
    take_part,
)
from fleet.drift.decide import (
    current_shifts,
    find_drift,
    name_fault,
)
from fleet.drift.device import DeviceState, observe
from fleet.drift.parameters import DriftParameters
from fleet.drift.yardstick import Yardstick

ORDERS = tuple(range(510, 513))
HISTORY = 100  # windows of 64 rows before the fault
_GRAVITY, _TURN = np.float32(1.0), np.float32(2.0)  # where a sensor saturates

Change = Callable[[Window], Window]


def turn_round(rows: Window) -> Window:
    """Turn both sensors by half a turn about z."""
    return rows * np.array([-1, -1, 1, -1, -1, 1], np.float32)


def halve_gain(rows: Window) -> Window:
    """Halve what the accelerometer says."""
    return rows * np.array([0.5, 0.5, 0.5, 1, 1, 1], np.float32)


def stop_gyroscope(rows: Window) -> Window:
    """Let the gyroscope say nothing but zero."""
    return rows * np.array([1, 1, 1, 0, 0, 0], np.float32)


def saturate(rows: Window) -> Window:
    """Limit both sensors: one g, two radians a second."""
    limit = np.repeat([_GRAVITY, _TURN], 3)
    return np.clip(rows, -limit, limit)


FAULTS: Final[dict[str, Change]] = {
    "turned": turn_round,
    "gain": halve_gain,
    "stuck": stop_gyroscope,
    "saturated": saturate,
}


@dataclass
class Watches:
    """A fleet of watches under the rule for small fleets.

    Attributes:
        flagged: Wearer -> windows from the change to the verdict.
        named: Wearer -> name of the fault, and windows until it was known.
        flagged_units: Wearer -> its units at the verdict.
        states: What the rule remembers of each wearer.
    """

    yardstick: Yardstick
    flagged: dict[int, int] = field(default_factory=dict)
    named: dict[int, tuple[str, int]] = field(default_factory=dict)
    flagged_units: dict[int, int] = field(default_factory=dict)
    states: dict[int, DeviceState] = field(default_factory=dict)
    parameters: DriftParameters = field(default_factory=DriftParameters)

    def take(self, wearer: int, window: Window) -> None:
        """Take in one window of one wearer."""
        statistics = summarise(window, self.yardstick.profile)
        state = self.states.get(wearer) or DeviceState.start(self.yardstick)
        series = [(statistics, 1)]
        self.states[wearer] = observe(state, series, self.yardstick, self.parameters)

    def judge(self, tick: int) -> None:
        """Decide as the server does after each tick."""
        for wearer in set(self.flagged) - set(self.named):
            state = self.states[wearer]
            ago = state.units - self.flagged_units[wearer]
            later = name_fault(state, self.yardstick, 1, ago)
            if later is not None and later.fault is not None:
                self.named[wearer] = (later.fault.name, tick)
        pool = {
            str(wearer): (state, self.yardstick)
            for wearer, state in self.states.items()
            if wearer not in self.flagged
        }
        for name, finding in find_drift(pool, self.parameters).items():
            self.flagged[int(name)] = tick
            self.flagged_units[int(name)] = self.states[int(name)].units
            if finding.fault is not None:
                self.named[int(name)] = (finding.fault.name, tick)


def run(orders: Sequence[int] = ORDERS) -> Document:
    """Break every sensor of every wearer in every order of the recordings."""
    recordings = load_recordings()
    live = select(recordings, (*SPARE_SUBJECTS, *LIVE_SUBJECTS), "right")
    yardstick = Yardstick.read(read_profile(take_part(live, "calibrate")))
    rows = [
        row
        for name, change in FAULTS.items()
        for row in _judge_fault(name, change, recordings, yardstick, orders)
    ]
    rows.append(_judge_arms(recordings, yardstick, orders))
    rows += _judge_new_wearers(recordings, yardstick, orders)
    return make_document("drift_faults", rows)


def run_fault(
    recordings: Sequence[Recording],
    yardstick: Yardstick,
    wearer: int,
    seed: int,
    change: Change | None,
) -> Watches:
    """Run the live watches; one breaks, or changes arms where ``change`` is None."""
    chance = random.Random(seed)  # noqa: S311 (an experiment, not a secret)
    watches = Watches(yardstick)
    streams = {
        one: emit_windows(
            shuffle(take_part(select(recordings, [one], "right"), "replay"), chance)
        )
        for one in LIVE_SUBJECTS
    }
    left = emit_windows(shuffle(select(recordings, [wearer], "left"), chance))
    for tick in range(HISTORY + AFTER_WINDOWS):
        broken = tick >= HISTORY
        for one, stream in streams.items():
            if broken and one == wearer:
                window = next(left) if change is None else change(next(stream))
            else:
                window = next(stream)
            watches.take(one, window)
        watches.judge(tick + 1 - HISTORY)
        if wearer in watches.named:
            break
    return watches


def _judge_fault(
    name: str,
    change: Change,
    recordings: Sequence[Recording],
    yardstick: Yardstick,
    orders: Sequence[int],
) -> list[Row]:
    delays, total = [], 0
    for seed in orders:
        for wearer in LIVE_SUBJECTS:
            watches = run_fault(recordings, yardstick, wearer, seed, change)
            total += 1
            found, delay = watches.named.get(wearer, ("", 0))
            if found == name and set(watches.flagged) == {wearer}:
                delays.append(float(delay))
    median, n, spread = summarise_samples(delays or [math.inf])
    return [
        Row(
            f"named {name!r}, and no other watch flagged",
            len(delays),
            "watches",
            n=total,
            asked=f"{total} of {total}",
            holds=len(delays) == total,
        ),
        Row(f"named {name!r}: delay", median, "windows of 64 rows", n=n, spread=spread),
    ]


def _judge_arms(
    recordings: Sequence[Recording], yardstick: Yardstick, orders: Sequence[int]
) -> Row:
    runs = [
        run_fault(recordings, yardstick, wearer, seed, None)
        for seed in orders
        for wearer in LIVE_SUBJECTS
    ]
    named = sum(len(one.named) for one in runs)
    return Row(
        "the other arm called a fault",
        named,
        "watches",
        n=len(runs),
        asked="0",
        holds=named == 0,
    )


def _judge_new_wearers(
    recordings: Sequence[Recording], yardstick: Yardstick, orders: Sequence[int]
) -> list[Row]:
    """Let unknown wearers begin without any history."""
    rows = []
    for wearer in HELD_OUT_SUBJECTS:
        flagged, farthest = 0, []
        for seed in orders:
            chance = random.Random(seed)  # noqa: S311
            watches = Watches(yardstick)
            own = shuffle(select(recordings, [wearer], "right"), chance)
            stream = emit_windows(own)
            for tick in range(AFTER_WINDOWS):
                watches.take(wearer, next(stream))
                watches.judge(tick)
            flagged += bool(watches.flagged)
            shift = current_shifts(watches.states[wearer], yardstick)[0]
            farthest.append(float(np.abs(shift / np.sqrt(yardstick.between[0])).max()))
        median, n, spread = summarise_samples(farthest)
        case = f"subject {wearer}, new to the model"
        rows += [
            Row(
                f"{case}: verdicts", flagged, "runs", n=n, asked="0", holds=not flagged
            ),
            Row(f"{case}: farthest mean", median, "wearer sd", n=n, spread=spread),
        ]
    return rows


if __name__ == "__main__":
    write_document(run())
