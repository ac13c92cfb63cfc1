# SPDX-License-Identifier: Apache-2.0
"""Claim: a thousand devices for a week without drift raise at most one alarm.

Owns the experiment: the whole fleetwide rule over simulated weeks (offsets, AR(1) to
0.6, a daily season that each device has in its own strength), beside the fixed rules
that people use, counted over the same windows. Evidently, in an environment of its own,
judges some windows drawn from them, as rows with the same mean and variance, by its
defaults; what it flags is scaled to the week.
"""

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.drift_runs import Run
from bench.harness.fleet_simulation import BINS, SLOTS_A_DAY, Fleet, Plan, Windows
from bench.harness.side_environment import run_aside
from edge_contract.binning import Float32
from fleet.drift.fleetwide.finding import Finding

SEEDS = (500, 501)
WEEK = 7 * SLOTS_A_DAY
DEVICES, FEATURES = 1000, 10
_REFERENCE_ROWS = 6000
_DRAWN, _DRAWN_ROWS = 60, 300  # windows a week for Evidently: half a second each


@dataclass
class FixedRules:
    """Counts how many stream-windows each fixed rule flags.

    Attributes:
        flagged: Rule -> stream-windows.
        windows: Windows of devices seen.
        drawn: Some of them as rows, float32 [rows, F] each.
    """

    flagged: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    drawn: list[Float32] = field(default_factory=list)
    _random: np.random.Generator = field(
        default_factory=lambda: np.random.default_rng(8)
    )

    def watch(self, windows: Windows) -> None:
        """Judge one slot's windows against the reference."""
        rows = np.maximum(windows.rows, 1)
        share = windows.counts / rows[:, np.newaxis, :]
        even = 1 / BINS
        smooth = np.maximum(share, 0.5 / rows[:, np.newaxis, :])
        psi = ((smooth - even) * np.log(smooth / even)).sum(axis=1)
        gap = np.abs(np.cumsum(share - even, axis=1))[:, :-1]
        size = rows * _REFERENCE_ROWS / (rows + _REFERENCE_ROWS)
        p = _kolmogorov(np.sqrt(size) * gap.max(axis=1))
        self.flagged["PSI > 0.2"] += int((psi > 0.2).sum())
        self.flagged["KS p < .05"] += int((p < 0.05).sum())
        self.flagged["KS with Benjamini-Hochberg .05 a window"] += _reject(p.ravel())
        self.windows += windows.came.size
        if self._random.random() < _DRAWN / WEEK:
            self.draw(windows)

    def draw(self, windows: Windows) -> None:
        """Keep one device's window as rows of its very mean and variance."""
        device = int(self._random.integers(windows.came.size))
        shape = (_DRAWN_ROWS, len(windows.mean))
        rows = self._random.normal(size=shape)
        rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
        rows = rows * np.sqrt(windows.variance[:, device]) + windows.mean[:, device]
        self.drawn.append(rows.astype(np.float32))

    def ask_evidently(self) -> Row:
        """Let Evidently judge the windows drawn, and scale to all."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "windows.npz"
            reference = np.random.default_rng(9).normal(
                size=(_REFERENCE_ROWS, self.drawn[0].shape[1])
            )
            np.savez(path, reference=reference, windows=np.stack(self.drawn))
            found = run_aside("evidently", "evidently_defaults", path)
        if found is None:
            return Row("Evidently could not be installed: not compared", 0.0, "-")
        share = sum(found["drifted"]) / len(found["drifted"])
        case = f"Evidently's default ({found['method']}), {len(self.drawn)} windows"
        return Row(
            f"alarms in the same week: {case} scaled to all",
            share * self.windows,
            "alarms",
            n=len(self.drawn),
        )


def _kolmogorov(statistic: np.ndarray) -> np.ndarray:
    """Return asymptotic p-values of the Kolmogorov-Smirnov statistic."""
    terms = [
        (-1) ** (k - 1) * np.exp(-2 * (k * np.maximum(statistic, 0.2)) ** 2)
        for k in range(1, 20)
    ]
    p: np.ndarray = np.clip(2 * np.sum(terms, axis=0), 0, 1)
    return p


def _reject(p: np.ndarray) -> int:
    ordered = np.sort(p)
    below = np.flatnonzero(ordered <= 0.05 * np.arange(1, p.size + 1) / p.size)
    return int(below[-1] + 1) if below.size else 0


def run(seeds: Sequence[int] = SEEDS) -> Document:
    """Run a week a seed."""
    alarms: list[float] = []
    rules = FixedRules()
    kinds: Counter[str] = Counter()
    for seed in seeds:
        week = Run(Fleet(Plan(seed=seed, devices=DEVICES, features=FEATURES)))
        week.advance(WEEK, rules.watch)
        found = [
            one
            for one in week.outcomes
            if isinstance(one, Finding) and one.kind != "season" and one.is_material
        ]
        alarms.append(len(found))
        kinds.update(one.kind for one in found)
    median, n, spread = summarise(alarms)
    rows = [
        Row(
            "alarms of the whole fleet in a week",
            median,
            "alarms",
            n=n,
            spread=spread,
            asked="<= 1",
            holds=max(alarms) <= 1,
        )
    ]
    for rule, count in rules.flagged.items():
        rows.append(Row(f"alarms in the same week: {rule}", count / n, "alarms", n=n))
    row = rules.ask_evidently()
    rows.append(replace(row, value=row.value / n))
    rows += [
        Row(f"of these alarms: {kind}", many, "alarms", n=n)
        for kind, many in kinds.items()
    ]
    return make_document("drift_false_alarms", rows)


if __name__ == "__main__":
    write_document(run())
