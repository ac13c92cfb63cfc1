# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.telemetry.merging import merge_group, merge_reports
from edge_contract.errors import WindowError
from edge_contract.evidence import Feedback, Shadow, encode_feedback
from edge_contract.window_report import WindowReport, encode_blocks
from tests.support.small_profile import RELEASE, small_profile, window_builder

PROFILE = small_profile()
LAYOUT = PROFILE.layout
BOOT_ID = bytes(8)


def report(number: int) -> WindowReport:
    found = window_builder(PROFILE, number)(BOOT_ID, number)
    assert isinstance(found, WindowReport)
    labels = np.arange(16) * number
    return replace(
        found,
        feedback_block=encode_feedback(Feedback(labels, labels // 2)),
        shadow=Shadow(RELEASE, 8 * number, number) if number % 2 else None,
    )


def private(number: int) -> WindowReport:
    sums = report(number).sums(LAYOUT)
    counts = sums.counts - 3 * number
    counts[LAYOUT.below.start : LAYOUT.repeat.stop] = 0
    count_block, moment_block = encode_blocks(
        replace(sums, counts=counts, epsilon_millionths=5)
    )
    return replace(
        report(number),
        count_block=count_block,
        moment_block=moment_block,
        epsilon_millionths=5,
        feedback_block=b"",
        shadow=None,
    )


@given(st.permutations(range(1, 7)))
def test_evidence_adds_up_in_any_order(order: list[int]) -> None:
    merged = reduce(
        lambda a, b: merge_reports(a, b, 99, LAYOUT), (report(one) for one in order)
    )

    found = WindowReport.decode(merged.encode())
    feedback = found.feedback()
    assert feedback is not None
    assert feedback.labels.tolist() == (np.arange(16) * 21).tolist()
    assert feedback.errors.sum() == sum(
        (np.arange(16) * one // 2).sum() for one in order
    )
    assert found.shadow == Shadow(RELEASE, 8 * 9, 9)


@given(st.permutations(range(1, 7)))
def test_private_windows_add_up_as_they_stand(order: list[int]) -> None:
    merged = reduce(
        lambda a, b: merge_reports(a, b, 99, LAYOUT), (private(one) for one in order)
    )

    found = WindowReport.decode(merged.encode())
    expected = np.sum([private(one).sums(LAYOUT).counts for one in order], axis=0)
    assert found.epsilon_millionths == 5
    assert found.statistics(PROFILE).counts.tolist() == expected.tolist()


def test_only_windows_of_one_kind_share_a_group() -> None:
    groups = {
        merge_group(one)
        for one in (
            report(1),
            report(2),
            private(1),
            replace(private(1), epsilon_millionths=6),
            replace(report(1), release=bytes(8)),
        )
    }

    assert len(groups) == 5
    assert merge_group(report(1)) == merge_group(report(3))
    assert all(one[:8] == PROFILE.ref_id for one in groups)


def test_windows_of_two_shadows_do_not_merge() -> None:
    other = replace(report(3), shadow=Shadow(bytes(8), 1, 1))

    with pytest.raises(WindowError, match="shadow"):
        merge_reports(report(1), other, 99, LAYOUT)
