# SPDX-License-Identifier: Apache-2.0
"""Claim: on real wrists, exactly the two watches that changed arms are flagged.

Owns the experiment behind the drift rule for small fleets: 40 random pairs of the six
live wearers change arms, in random orders of the exercises, and every 64-row window
goes through the rule that the server runs. Prints one JSON document.

Rows are the recordings' held-out quarter (right arm) and whole left-arm recordings, in
the order in which an agent's `file` source emits them. Gate and allowance were chosen
on the same six wearers (in another order of rows), so this is no independent test.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.harness.document import (
    Document,
    Row,
    make_document,
    write_document,
)
from bench.harness.document import summarise as summarise_samples
from converter.data.dataset import Rows
from converter.data.rule import FrameRule
from converter.tensors import TensorSpec
from converter.variances import unit_variances
from edge_contract.binning import BinTable, equal_mass_edges
from edge_contract.profile import FeatureReference, OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics
from examples.watch.data import (
    EXERCISES,
    FEATURES,
    FRAME_LENGTH,
    HOP,
    LIVE_SUBJECTS,
    SPARE_SUBJECTS,
    Recording,
    load_recordings,
    select,
    take_part,
)
from fleet.drift.decide import Finding, find_drift
from fleet.drift.device import DeviceState, observe
from fleet.drift.parameters import DriftParameters
from fleet.drift.yardstick import Yardstick

TRIALS = 40
AFTER_WINDOWS = 150
HISTORIES = (0, 50, 100, 200)  # windows before the change
Window = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """One trial.

    Attributes:
        moved: The two wearers that changed arms.
        flagged: Wearer -> windows from the change to the flag (negative: before it).
        findings: Wearer -> what the rule said.
    """

    moved: frozenset[int]
    flagged: dict[int, int]
    findings: dict[int, Finding]

    @property
    def exact(self) -> bool:
        """Whether exactly the two were flagged, and after the change."""
        return frozenset(self.flagged) == self.moved and min(self.flagged.values()) > 0


def read_profile(recordings: Sequence[Recording]) -> ReferenceProfile:
    """Build the reference profile from the calibration parts, as a bundle has it."""
    lengths = [len(one.rows) for one in recordings]
    rows = np.concatenate([one.rows for one in recordings])
    wearers = [one.wearer for one in recordings]
    names = sorted(set(wearers))
    edges = [equal_mass_edges(column) for column in rows.T]
    variances = unit_variances(
        Rows(
            rows,
            np.repeat(np.arange(len(recordings)), lengths),
            np.repeat([names.index(one) for one in wearers], lengths),
        ),
        BinTable(edges),
        FrameRule(
            TensorSpec("frame", (1, FRAME_LENGTH, len(FEATURES)), "float32"),
            "series",
            HOP,
        ),
    )
    again = [(one.rows[1:] == one.rows[:-1]).sum(axis=0) for one in recordings]
    repeats = np.sum(again, axis=0) / len(rows)
    features = tuple(
        FeatureReference(
            name,
            edges[index],
            BinTable([edges[index]]).count(rows[:, [index]]),
            0,
            float(rows[:, index].mean(dtype=np.float64)),
            float(rows[:, index].std(dtype=np.float64)),
            float(rows[:, index].min()),
            float(rows[:, index].max()),
            float(variances.location_within[index]),
            float(variances.location_between[index]),
            float(variances.scale_within[index]),
            float(variances.scale_between[index]),
            repeat_ppm=round(1e6 * repeats[index]),
            longest_run=2,
        )
        for index, name in enumerate(FEATURES)
    )
    return ReferenceProfile(
        "series",
        features,
        _no_outputs(),
        variances.unit_rows,
        variances.groups,
        ((0, 1, 2), (3, 4, 5)),
    )


def _no_outputs() -> OutputReference:
    """Give empty outputs: this claim is about what goes into a model."""
    confidence, margin = np.zeros(16, np.int64), np.zeros(8, np.int64)
    return OutputReference(
        EXERCISES,
        np.zeros(len(EXERCISES), np.int64),
        np.zeros(15, np.float32),
        confidence,
        confidence.copy(),
        np.zeros(7, np.float32),
        margin,
    )


def emit_windows(recordings: Sequence[Recording]) -> Iterator[Window]:
    """Yield windows float32 [64, 6] for ever, one hop of each recording in turn."""
    ends = [0] * len(recordings)
    while True:
        for index, recording in enumerate(recordings):
            if ends[index] + HOP > len(recording.rows):
                ends[index] = 0
            fresh = FRAME_LENGTH if ends[index] == 0 else HOP
            rows = recording.rows[ends[index] : ends[index] + fresh]
            ends[index] += fresh
            for start in range(0, fresh, HOP):
                yield rows[start : start + HOP]


def summarise(window: Window, profile: ReferenceProfile) -> WindowStatistics:
    """Count one window as a device does."""
    builder = StatisticsBuilder(profile)
    builder.add_rows(window)
    return builder.statistics


def run_trial(
    recordings: Sequence[Recording],
    yardstick: Yardstick,
    history: int,
    seed: int,
    subjects: Sequence[int] = LIVE_SUBJECTS,
) -> Outcome:
    """Run one fleet of watches; two of them change arms after ``history`` windows."""
    chance = random.Random(seed)  # noqa: S311 (an experiment, not a secret)
    moved = frozenset(chance.sample(list(subjects), 2))
    parameters = DriftParameters()
    states = {one: DeviceState.start(yardstick) for one in subjects}
    before = {
        one: shuffle(take_part(select(recordings, [one], "right"), "replay"), chance)
        for one in subjects
    }
    after = {one: shuffle(select(recordings, [one], "left"), chance) for one in moved}
    streams = {one: emit_windows(before[one]) for one in subjects}
    flagged: dict[int, int] = {}
    findings: dict[int, Finding] = {}
    for tick in range(history + AFTER_WINDOWS):
        if tick == history:
            streams |= {one: emit_windows(after[one]) for one in moved}
        for one in subjects:
            window = summarise(next(streams[one]), yardstick.profile)
            states[one] = observe(states[one], [(window, 1)], yardstick, parameters)
        pool = {
            str(one): (state, yardstick)
            for one, state in states.items()
            if one not in flagged
        }
        for name, finding in find_drift(pool, parameters).items():
            flagged[int(name)] = tick + 1 - history
            findings[int(name)] = finding
    return Outcome(moved, flagged, findings)


def shuffle(recordings: Sequence[Recording], chance: random.Random) -> list[Recording]:
    """Return the recordings in another order."""
    order = list(recordings)
    chance.shuffle(order)
    return order


def run(trials: int = TRIALS) -> Document:
    """Run the trials of every length of own history; three rows a length."""
    recordings = load_recordings()
    live = select(recordings, (*SPARE_SUBJECTS, *LIVE_SUBJECTS), "right")
    yardstick = Yardstick.read(read_profile(take_part(live, "calibrate")))
    rows: list[Row] = []
    for history in HISTORIES:
        outcomes = [
            run_trial(recordings, yardstick, history, seed) for seed in range(trials)
        ]
        rows += _judge(f"{history} windows of own history", outcomes)
    return make_document("drift_watch", rows)


def _judge(case: str, outcomes: Sequence[Outcome]) -> list[Row]:
    exact = sum(one.exact for one in outcomes)
    healthy = sum(len(set(one.flagged) - one.moved) for one in outcomes)
    delays = [
        float(delay)
        for one in outcomes
        for device, delay in one.flagged.items()
        if device in one.moved and delay > 0
    ]
    least = math.ceil(0.95 * len(outcomes))
    median, found, spread = summarise_samples(delays or [math.inf])
    return [
        Row(
            f"exactly the two flagged, {case}",
            exact,
            "trials",
            n=len(outcomes),
            asked=f">= {least} of {len(outcomes)}",
            holds=exact >= least,
        ),
        Row(
            f"healthy devices flagged, {case}",
            healthy,
            "devices",
            n=4 * len(outcomes),
            asked="0",
            holds=healthy == 0,
        ),
        Row(
            f"median delay, {case}",
            median,
            "windows of 64 rows",
            n=found,
            spread=spread,
            asked=f"<= {AFTER_WINDOWS}",
            holds=median <= AFTER_WINDOWS,
        ),
    ]


if __name__ == "__main__":
    write_document(run())
