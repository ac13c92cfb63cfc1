# SPDX-License-Identifier: Apache-2.0
"""Claim: a shift of two window sd is found within windows, beside what is possible.

Owns the experiment: on the sixth day 2 % of 1,000 devices shift by 2 sd of a window, in
one, two or three features, under three strengths of autocorrelation; and a whole world
by 0.1 row sd. Beside each delay stands the bound for any test: 90 % power at the
level that e-BH gives twenty streams in ten thousand.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.drift_runs import FIRST_SLOT, Run
from bench.harness.fleet_simulation import SLOTS_A_DAY, Effect, Fleet, Plan, pick
from fleet.drift.fleetwide.finding import Finding

DEVICES, FEATURES, MOVED = 1000, 10, 20
ONSET = 5 * SLOTS_A_DAY
WATCHED = 72
PHIS = (0.0, 0.3, 0.6)
SEEDS = (500,)
_Z_LEVEL, _Z_POWER = 3.89, 1.28  # of .05 x 20 / 10,000 on two sides, and of 90 %


@dataclass(frozen=True)
class Result:
    """Delays of the devices that moved (inf: not found), and false ones."""

    delays: list[float]
    false: int
    found: int


def least_windows(phi: float) -> int:
    """Return the windows that any test needs at lag-1 correlation ``phi``.

    >>> [least_windows(phi) for phi in (0.0, 0.3, 0.6)]
    [7, 12, 22]
    """
    need = (_Z_LEVEL + _Z_POWER) ** 2 / 4
    n = 1 + (need - 1 / (1 - phi**2)) * (1 + phi) / (1 - phi)
    return max(math.ceil(n), 1)


def shift_devices(base: Run, features: int, seed: int) -> Result:
    """Branch a run and shift some devices."""
    run_ = copy.deepcopy(base)
    random = np.random.default_rng(seed)
    moved = pick(random, MOVED, range(DEVICES))
    effects = tuple(
        Effect(
            ONSET,
            (device,),
            pick(random, features, range(FEATURES)),
            shift=float(random.choice([-1, 1])) * 2 * base.fleet.window_sd,
        )
        for device in moved
    )
    run_.fleet.plan = replace(run_.fleet.plan, effects=effects)
    run_.advance(WATCHED)
    flagged = {
        int(one.subject[1:]): one.slot - FIRST_SLOT - ONSET + 1
        for one in run_.outcomes[len(base.outcomes) :]
        if isinstance(one, Finding) and one.kind == "device" and one.is_material
    }
    delays = [float(flagged.get(device, math.inf)) for device in moved]
    return Result(delays, len(set(flagged) - set(moved)), len(flagged))


def shift_world(base: Run) -> float:
    """Branch a run and shift the world; return the delay of the right verdict."""
    run_ = copy.deepcopy(base)
    effect = Effect(ONSET, tuple(range(DEVICES)), (0,), shift=0.1)
    run_.fleet.plan = replace(run_.fleet.plan, effects=(effect,))
    run_.advance(WATCHED)
    slots = [
        one.slot - FIRST_SLOT - ONSET + 1
        for one in run_.outcomes[len(base.outcomes) :]
        if isinstance(one, Finding) and one.kind == "world" and one.is_material
    ]
    return float(min(slots, default=math.inf))


def run(phis: Sequence[float] = PHIS, seeds: Sequence[int] = SEEDS) -> Document:
    """Run one fleet a strength of autocorrelation and seed."""
    rows: list[Row] = []
    false, found, worlds = 0, 0, []
    for phi in phis:
        results: dict[int, list[Result]] = {1: [], 2: [], 3: []}
        for seed in seeds:
            plan = Plan(seed=seed, devices=DEVICES, features=FEATURES, most_phi=phi)
            base = Run(Fleet(plan))
            base.advance(ONSET)
            for features, some in results.items():
                some.append(shift_devices(base, features, seed * 10 + features))
            worlds.append(shift_world(base))
        for features, some in results.items():
            rows.append(_delay_row(phi, features, some))
            false += sum(one.false for one in some)
            found += sum(one.found for one in some)
    share = false / max(found, 1)
    rows.append(
        Row(
            "false among flagged devices",
            share,
            "share",
            n=found,
            asked="<= 0.05",
            holds=share <= 0.05,
        )
    )
    median, n, spread = summarise([min(one, WATCHED) for one in worlds])
    rows.append(
        Row(
            "delay of the verdict, world shifts by 0.1 sd",
            median,
            "windows",
            n=n,
            spread=spread,
            asked="<= 12",
            holds=max(worlds) <= 12,
        )
    )
    return make_document("drift_power", rows)


def _delay_row(phi: float, features: int, results: Sequence[Result]) -> Row:
    delays = [min(one, WATCHED) for some in results for one in some.delays]
    median, n, spread = summarise(delays)
    asked = 10 if phi <= 0.3 or features > 1 else 24
    bound = least_windows(phi) if features == 1 else None
    return Row(
        f"median delay, {features} features, lag-1 up to {phi}; baseline: any test",
        median,
        "windows",
        baseline=bound,
        ratio=median / bound if bound else None,
        n=n,
        spread=spread,
        asked=f"<= {asked}",
        holds=median <= asked,
    )


if __name__ == "__main__":
    write_document(run())
