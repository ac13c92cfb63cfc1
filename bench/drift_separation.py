# SPDX-License-Identifier: Apache-2.0
"""Claim: device, fault, cohort, world, season and deploy are told apart.

Owns the confusion matrix over fresh seeds: 200 devices of 4 features, two days of
history with a harmless deploy, then one cause. A run is right only if the set of
verdict kinds over the whole run is exactly what was planted, season included. Then the
hard cases: two causes at once, a cohort of most of the fleet, a deploy to all, gaps.
"""

from collections import Counter
from collections.abc import Sequence

from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.drift_scenarios import (
    HARD_SCENARIOS,
    SCENARIOS,
    branch,
    found_kinds,
    start_run,
)
from bench.harness.fleet_simulation import Plan

SEEDS = tuple(range(100, 120))
DEVICES, FEATURES = 200, 4
_ASKED_ALL, _ASKED_EACH = 0.95, 0.9


def run(seeds: Sequence[int] = SEEDS) -> Document:
    """Run all scenarios of each seed, with a season and without."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for seed in seeds:
        for has_season in (True, False):
            plan = Plan(seed * 2 + has_season, DEVICES, FEATURES, has_season=has_season)
            base = start_run(plan)
            cases = dict(SCENARIOS)
            if seed % 2 and has_season == bool(seed & 2):  # they take long
                cases |= HARD_SCENARIOS
            for number, (name, scenario) in enumerate(cases.items()):
                done, event, _ = branch(base, scenario, seed * 100 + number)
                expected = event.kinds | ({"season"} if has_season else set())
                label = "season" if name == "none" and has_season else name
                found = found_kinds(done)
                total[label] += 1
                right[label] += found == expected
                if found != expected:
                    wrong[f"{label}: {', '.join(sorted(found)) or 'nothing'}"] += 1
    return make_document("drift_separation", _rows(right, total, wrong))


def _rows(right: Counter[str], total: Counter[str], wrong: Counter[str]) -> list[Row]:
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
