# SPDX-License-Identifier: Apache-2.0
"""Claim: device, fault, cohort, world, season and deploy are told apart.

Owns the confusion matrix over fresh seeds: 200 devices of 4 features, two days of
history with a harmless deploy, then one cause. A run is right only if the set of
verdict kinds over the whole run is exactly what was planted, season included. Then the
hard cases: two causes at once, a cohort of most of the fleet, a deploy to all, gaps,
silence.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.drift_scenarios import (
    HARD_SCENARIOS,
    SCENARIOS,
    branch,
    found_kinds,
    start_run,
)
from bench.harness.fleet_simulation import Plan

SEEDS = tuple(range(520, 540))
DEVICES, FEATURES = 200, 4
_ASKED_ALL, _ASKED_EACH = 0.95, 0.9


@dataclass(frozen=True)
class Judged:
    """One run: the scenario, the kinds that are right, and those found."""

    label: str
    expected: frozenset[str]
    found: frozenset[str]


def run(seeds: Sequence[int] = SEEDS) -> Document:
    """Run all scenarios of each seed, with a season and without."""
    judged = [one for seed in seeds for one in judge_seed(seed)]
    return make_document("drift_separation", make_rows(judged))


def judge_seed(seed: int) -> list[Judged]:
    """Run the scenarios of one seed."""
    judged = []
    for has_season in (True, False):
        plan = Plan(seed * 2 + has_season, DEVICES, FEATURES, has_season=has_season)
        base = start_run(plan)
        cases = dict(SCENARIOS)
        if has_season == bool(seed & 1):  # they take long
            cases |= HARD_SCENARIOS
        for number, (name, scenario) in enumerate(cases.items()):
            done, event, _ = branch(base, scenario, seed * 100 + number)
            expected = event.kinds | ({"season"} if has_season else set())
            label = "season" if name == "none" and has_season else name
            judged.append(Judged(label, expected, found_kinds(done)))
    return judged


def make_rows(judged: Sequence[Judged]) -> list[Row]:
    """Return the shares that are right, and what was said where they are not."""
    total = Counter(one.label for one in judged)
    right = Counter(one.label for one in judged if one.found == one.expected)
    wrong = Counter(
        f"{one.label}: {', '.join(sorted(one.found)) or 'nothing'}"
        for one in judged
        if one.found != one.expected
    )
    easy = [name for name in total if name not in HARD_SCENARIOS]
    many = sum(total[name] for name in easy)
    share = sum(right[name] for name in easy) / many
    rows = [
        Row(
            "runs with exactly the right kinds",
            share,
            "share",
            n=many,
            asked=f">= {_ASKED_ALL}",
            holds=share >= _ASKED_ALL,
        )
    ]
    for name in total:
        one = right[name] / total[name]
        is_easy = name in easy
        rows.append(
            Row(
                f"right: {name}",
                one,
                "share",
                n=total[name],
                asked=f">= {_ASKED_EACH}" if is_easy else None,
                holds=one >= _ASKED_EACH if is_easy else None,
            )
        )
    rows += [Row(f"wrong: {name}", count, "runs") for name, count in wrong.items()]
    return rows


if __name__ == "__main__":
    write_document(run())
