# SPDX-License-Identifier: Apache-2.0
from hypothesis import given
from hypothesis import strategies as st

from fleet.ingest.marks import MAX_AHEAD, Marks

SEQS = st.integers(1, 40)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "raise"]), SEQS), max_size=60)


@given(STEPS)
def test_marks_are_the_set_of_what_was_added(steps: list[tuple[str, int]]) -> None:
    marks, oracle = Marks(), set[int]()
    for kind, seq in steps:
        if kind == "add":
            marks, oracle = marks.add(seq), oracle | {seq}
        else:
            marks, oracle = marks.raise_to(seq), oracle | set(range(1, seq + 1))
        assert [seq for seq in range(1, 60) if seq in marks] == sorted(oracle)
        assert set(range(1, marks.mark + 1)) <= oracle
        assert marks.mark + 1 not in oracle
        assert Marks.from_bitmap(marks.mark, marks.bitmap()) == marks


def test_the_farthest_seq_within_reach_fits_the_bitmap_of_an_ack() -> None:
    marks = Marks(mark=5).add(5 + MAX_AHEAD)

    assert len(marks.bitmap()) == 1024
    assert Marks(mark=5).reaches(5 + MAX_AHEAD)
    assert not Marks(mark=5).reaches(6 + MAX_AHEAD)
