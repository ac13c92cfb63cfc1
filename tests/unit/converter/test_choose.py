# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from converter.choose import Choice, Figures, Objective, choose

FLOAT = Figures(0.0, 0.0, 999.0, 10.0, 1000, 500, ram_bytes=500)
INT8 = Figures(0.0, 0.009, 40.0, 5.0, 400, 500, needed=381, ram_bytes=400)


def run(objective: Objective = "latency", **others: Figures) -> Choice:
    return choose(
        {"float": FLOAT, **others},
        objective=objective,
        max_drop=0.01,
        float_ids=["float"],
    )


def test_a_proven_and_faster_variant_is_chosen() -> None:
    choice = run(int8=INT8)
    assert choice.chosen == "int8"
    assert choice.reasons["int8"] == "chosen: best latency within the budget"
    assert choice.nearest is None


def test_an_unproven_variant_is_not_and_says_what_it_takes() -> None:
    choice = run(int8=replace(INT8, upper=0.02, samples=100))
    assert (choice.chosen, choice.nearest) == ("float", "int8")
    assert choice.reasons["int8"].endswith("needs 281 more samples than 100")
    hopeless = run(int8=replace(INT8, drop=0.02, upper=0.03, needed=None))
    assert hopeless.reasons["int8"].endswith("more samples would not help at this drop")


@pytest.mark.parametrize("latency_us", [10.0, 11.0])
def test_a_slower_variant_is_never_chosen_for_latency(latency_us: float) -> None:
    slow = replace(INT8, latency_us=latency_us)
    choice = run(int8=slow)
    assert choice.chosen == "float"
    assert choice.reasons["int8"] == "not faster than float (10.0 µs)"
    assert run("size", int8=slow).chosen == "int8"


def test_ram_is_compared_where_it_is_the_objective() -> None:
    assert run("ram", int8=replace(INT8, ram_bytes=501)).chosen == "float"
    assert run("ram", int8=replace(INT8, ram_bytes=400)).chosen == "int8"
    assert run("ram", int8=replace(INT8, ram_bytes=None)).chosen == "float"


def test_a_cost_within_a_hosts_noise_is_decided_by_quality() -> None:
    exact = replace(INT8, sqnr_db=50.0, latency_us=5.3)
    assert run(int8=INT8, exact=exact).chosen == "exact"
    slower = replace(exact, latency_us=5.5)
    choice = run(int8=INT8, exact=slower)
    assert choice.chosen == "int8"
    assert choice.reasons["exact"] == "within the budget, not the best latency"
    assert run(int8=INT8, exact=exact).reasons["int8"].endswith("less exact")


def test_what_a_device_cannot_run_is_out_whatever_it_costs() -> None:
    barred = replace(INT8, objections=("needs 2.17",))
    choice = run(int8=barred)
    assert choice.chosen == "float"
    assert choice.reasons["int8"] == "cannot run there: needs 2.17"
    assert choice.nearest is None


def test_nothing_is_chosen_where_nothing_can_run() -> None:
    figures = {"float": replace(FLOAT, objections=("no",)), "int8": INT8}
    none = choose(
        {name: replace(one, objections=("no",)) for name, one in figures.items()},
        objective="size",
        max_drop=0.01,
        float_ids=["float"],
    )
    assert none.chosen is None
