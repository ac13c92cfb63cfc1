# SPDX-License-Identifier: Apache-2.0
import itertools
import random
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import MessageError, WindowError
from edge_contract.evidence import (
    Feedback,
    Shadow,
    decode_feedback,
    encode_feedback,
    merge_feedback,
    merge_shadows,
)
from edge_contract.varint import encode_counts
from edge_contract.window_report import WindowReport
from tests.conformance.samples import evidence_report

BINS = st.integers(0, 15)
RELEASE = bytes(range(8))


def count_labels(found: list[tuple[int, bool]]) -> Feedback:
    labels, errors = np.zeros(16, np.int64), np.zeros(16, np.int64)
    for place, wrong in found:
        labels[place] += 1
        errors[place] += wrong
    return Feedback(labels, errors)


@given(
    st.lists(st.tuples(BINS, st.booleans()), max_size=60),
    st.lists(st.integers(0, 60), max_size=5),
    st.randoms(),
)
def test_labels_split_over_windows_add_up_to_the_whole(
    found: list[tuple[int, bool]], cuts: list[int], shuffler: random.Random
) -> None:
    edges = [0, *sorted(cuts), 60]
    parts = [count_labels(found[a:b]) for a, b in itertools.pairwise(edges)]
    shuffler.shuffle(parts)

    merged = reduce(merge_feedback, parts, Feedback.none())

    whole = count_labels(found)
    assert merged.labels.tolist() == whole.labels.tolist()
    assert merged.errors.tolist() == whole.errors.tolist()
    if found:
        again = decode_feedback(encode_feedback(merged))
        assert again.errors.tolist() == whole.errors.tolist()


def test_no_label_takes_no_byte() -> None:
    assert encode_feedback(Feedback.none()) == b""


@pytest.mark.parametrize(
    "counts", [[0] * 31, [0] * 33, [0] * 16 + [1] + [0] * 15], ids=str
)
def test_blocks_of_another_length_or_with_more_errors_than_labels(
    counts: list[int],
) -> None:
    with pytest.raises(WindowError):
        decode_feedback(encode_counts(np.array(counts, np.int64)))


def test_comparisons_add_up_under_one_shadow_only() -> None:
    first, second = Shadow(RELEASE, 5, 2), Shadow(RELEASE, 7, 0)

    assert merge_shadows(first, second) == Shadow(RELEASE, 12, 2)
    assert merge_shadows(None, second) == second
    assert merge_shadows(None, None) is None
    with pytest.raises(WindowError, match="cannot merge"):
        merge_shadows(first, Shadow(bytes(8), 7, 0))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (24, 0),
        (24, -1),
        (24, True),
        (24, 2**63),
        (25, 7),
        (26, [bytes(8), 1]),
        (26, [bytes(7), 1, 1]),
        (26, [bytes(8), 1, 2]),
        (26, [bytes(8), 2**53, 1]),
        (26, [bytes(8), -1, -2]),
        (26, [bytes(8), True, 0]),
    ],
)
def test_malformed_evidence_is_refused(key: int, value: Any) -> None:
    body = decode_cbor(evidence_report().encode(), max_bytes=4096)
    body[key] = value

    with pytest.raises(MessageError):
        WindowReport.decode(encode_cbor(body))
