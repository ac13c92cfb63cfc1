# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.drift.fleetwide.polish import TagGroups, explain, polish, row_median

HALVES = TagGroups((1, 2), (np.arange(20), np.arange(20, 40)))
ODD = TagGroups((3, 4), (np.arange(0, 40, 2), np.arange(1, 40, 2)))


@given(
    world=st.floats(-2, 2),
    cohort=st.floats(-1, 1),
    seed=st.integers(0, 1000),
)
def test_parts_and_rest_sum_to_the_values(
    world: float, cohort: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(world, 0.1, (3, 40)).astype(np.float32)
    values[:, :20] += np.float32(cohort)

    parts = polish(values, [HALVES, ODD], 5, None)
    members = dict(zip((1, 2, 3, 4), (*HALVES.columns, *ODD.columns), strict=True))
    rest = values - explain(parts, members, 40)

    for columns in (np.arange(40), *ODD.columns, *HALVES.columns):
        assert np.abs(row_median(rest[:, columns])).max() < 0.15
    level = parts.world[0] + parts.cohort[0, 1]
    np.testing.assert_allclose(level, world + cohort, atol=0.2)


def test_a_broken_device_moves_neither_world_nor_cohort() -> None:
    values = np.zeros((1, 40), dtype=np.float32)
    values[0, 7] = 1000

    parts = polish(values, [HALVES], 5, None)

    assert parts.world.tolist() == [0.0]
    assert parts.cohort.tolist() == [[0.0] * 5]


def test_the_tag_that_explains_most_comes_first_in_each_row() -> None:
    values = np.zeros((2, 40), dtype=np.float32)
    values[0, :20] = 1
    values[1, ::2] = 1

    parts = polish(values, [HALVES, ODD], 5, None)

    assert parts.order[:, 0].tolist() == [0, 1]


def test_a_remembered_order_gives_the_same_parts_as_the_slot_that_found_it() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(4, 40)).astype(np.float32)

    first = polish(values, [HALVES, ODD], 5, None)
    again = polish(values, [HALVES, ODD], 5, first.order)

    assert first.world.tolist() == again.world.tolist()
    assert first.cohort.tolist() == again.cohort.tolist()


def test_without_tags_there_is_only_the_world() -> None:
    values = np.array([[3.0, 1.0, 2.0, 8.0]], dtype=np.float32)

    parts = polish(values, [], 1, None)

    assert parts.world.tolist() == [2.5]
    assert explain(parts, {}, 4).tolist() == [[2.5] * 4]
