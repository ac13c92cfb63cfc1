# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from converter.search.reverts import largest_prefix, rank, smallest_prefix

LENGTHS = st.integers(1, 300)


@given(LENGTHS, st.data())
def test_bisection_finds_where_a_condition_turns_true(
    length: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, length))
    assert smallest_prefix(length, lambda count: count >= first) == first


@given(LENGTHS, st.data())
def test_bisection_finds_the_last_count_that_holds(
    length: int, data: st.DataObject
) -> None:
    last = data.draw(st.integers(0, length))
    asked: list[int] = []

    def holds(count: int) -> bool:
        asked.append(count)
        return count <= last

    assert largest_prefix(length, holds) == last
    assert all(1 <= one <= length for one in asked)
    assert len(asked) <= 2 * length.bit_length() + 1


def test_nothing_holds_where_even_all_reverts_do_not() -> None:
    assert smallest_prefix(31, lambda _: False) is None
    assert smallest_prefix(0, lambda _: True) is None


def test_equal_operators_are_ranked_by_name() -> None:
    assert rank({"b": 40.0, "a": 40.0, "c": 41.0}) == ("c", "a", "b")
