# SPDX-License-Identifier: Apache-2.0
"""Claim: a planted cause is named first.

Owns the experiment: thirty cohorts and deployments, each planted in a fleet of 300
devices with a season, and the whole rule asked for its first wide verdict.
"""

from collections.abc import Sequence
from itertools import cycle

from bench.harness.document import Document, Row, make_document, write_document
from bench.harness.drift_scenarios import branch, cohort, deploy, start_run
from bench.harness.fleet_simulation import Plan
from fleet.drift.fleetwide.finding import Finding

SEEDS = (520, 521, 522)
DEVICES, FEATURES = 300, 2
BRANCHES = 10


def run(seeds: Sequence[int] = SEEDS) -> Document:
    """Plant ten causes a seed."""
    first = total = 0
    for seed in seeds:
        base = start_run(Plan(seed, DEVICES, FEATURES))
        scenarios = cycle((cohort, cohort, deploy))
        for number, scenario in zip(range(BRANCHES), scenarios, strict=False):
            done, event, _ = branch(base, scenario, seed * 1000 + number)
            wide = [
                one.subject
                for one in done.outcomes
                if isinstance(one, Finding)
                and one.kind in {"cohort", "deploy", "world"}
                and one.is_material
            ]
            total += 1
            first += bool(wide) and wide[0] in event.subjects
    least = round(total * 29 / 30)
    return make_document(
        "drift_attribution",
        [
            Row(
                "planted cause named first",
                first,
                "runs",
                n=total,
                asked=f">= {least} of {total}",
                holds=first >= least,
            )
        ],
    )


if __name__ == "__main__":
    write_document(run())
