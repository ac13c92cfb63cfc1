# SPDX-License-Identifier: Apache-2.0
"""Claim: a bad release stops itself before a million devices have it.

Owns the experiment: a million virtual devices take a good release, one that breaks a
tenth of the devices, one that breaks a hundredth, and one that breaks none but makes
the model worse, under the product's own planner, beside a gate at five percent errors
and a rollout by time alone. Reported are devices exposed, time to halt and the peak of
requests, and how long all of it took.
"""

import time
from collections.abc import Sequence
from multiprocessing import get_context

from bench.harness.document import (
    Document,
    Row,
    make_document,
    summarise,
    write_document,
)
from bench.harness.rollout_strategies import (
    Fleet,
    Run,
    follow_clock,
    follow_errors,
    follow_planner,
)
from bench.harness.rollout_world import HOUR, Release, Update, World

DEVICES = 1_000_000
SEEDS = (1, 2, 3, 4)
_PROCESSES = 2
_MOST_SECONDS = 300.0
RELEASES = (
    Release("good"),
    Release("10 % bad", bad=0.1),
    Release("1 % bad", bad=0.01),
    Release("drift", confidence=-4.0, drift=0.4),
)
STRATEGIES = ("planner", "5 % errors", "time only")

_Runs = dict[tuple[str, str], Run]


def run_world(seed: int, devices: int = DEVICES) -> _Runs:
    """Take every release through one world, in each way."""
    world = World(devices, seed)
    fleet = Fleet(world)
    found: _Runs = {}
    for release in RELEASES:
        found[release.name, "planner"] = follow_planner(fleet, Update(world, release))
        found[release.name, "5 % errors"] = follow_errors(world, Update(world, release))
        found[release.name, "time only"] = follow_clock(world, Update(world, release))
    return found


def run(seeds: Sequence[int] = SEEDS) -> Document:
    """Run all worlds, two at a time."""
    started = time.monotonic()
    with get_context("spawn").Pool(_PROCESSES) as pool:
        worlds = pool.map(run_world, seeds)
    seconds = time.monotonic() - started
    rows = [
        Row(
            f"a million devices, {len(seeds)} worlds x 4 releases x 3 ways",
            seconds,
            "s",
            asked=f"<= {_MOST_SECONDS:g}",
            holds=seconds <= _MOST_SECONDS,
        )
    ]
    for release in RELEASES:
        rows += _describe(release, worlds)
    return make_document("ota_simulator", rows)


def _describe(release: Release, worlds: Sequence[_Runs]) -> list[Row]:
    rows = []
    for strategy in STRATEGIES:
        runs = [world[release.name, strategy] for world in worlds]
        states = sorted({one.state for one in runs})
        name = f"{release.name} release, {strategy} ({', '.join(states)})"
        last = [world[release.name, STRATEGIES[-1]].exposed for world in worlds]
        value, n, spread = summarise([one.exposed for one in runs])
        base, _, _ = summarise(last)
        is_ours = strategy == "planner"
        should_stop = release.name != "good"
        holds = all((one.state != "completed") is should_stop for one in runs)
        rows.append(
            Row(
                f"{name}: devices exposed",
                value,
                "devices",
                baseline=base,
                ratio=value / base,
                n=n,
                spread=spread,
                asked=("stops" if should_stop else "completes") if is_ours else None,
                holds=holds if is_ours else None,
            )
        )
        hours, n, spread = summarise([one.seconds / HOUR for one in runs])
        rows.append(Row(f"{name}: time to its end", hours, "h", n=n, spread=spread))
        peak, n, spread = summarise([one.peak for one in runs])
        rows.append(Row(f"{name}: peak", peak, "requests/s", n=n, spread=spread))
    return rows


if __name__ == "__main__":
    write_document(run())
