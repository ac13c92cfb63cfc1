# SPDX-License-Identifier: Apache-2.0
"""The rollout simulator drives the product's planner, and chooses as it does."""

import pytest

from bench.harness.rollout_strategies import Fleet, Run, follow_planner, select
from bench.harness.rollout_world import Release, Update, World
from fleet.rollout.planner import selects
from fleet.rollout.request import parse_phases


@pytest.fixture(scope="module")
def world() -> World:
    return World(5000, seed=1)


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_a_share_is_that_of_the_devices_themselves(world: World, percent: int) -> None:
    phase = parse_phases([f"{percent}%"])[0]

    assert select(world, phase).tolist() == [
        selects(world.salt, name, percent) for name in world.names
    ]


@pytest.mark.parametrize(
    ("release", "state", "most"),
    [
        (Release("good"), "completed", 5000),
        (Release("10 % bad", bad=0.1), "held", 100),
        (Release("drift", confidence=-6.0, drift=0.5), "halted", 100),
    ],
    ids=lambda one: one.name if isinstance(one, Release) else str(one),
)
def test_what_is_bad_stops(
    world: World, release: Release, state: str, most: int
) -> None:
    found: Run = follow_planner(Fleet(world), Update(world, release))

    assert found.state == state
    assert found.exposed <= most
