# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from converter.data.dataset import Rows
from converter.data.rule import FrameRule
from converter.errors import ConvertDataError
from converter.tensors import TensorSpec
from converter.variances import interleave, unit_variances
from edge_contract.binning import BinTable, equal_mass_edges

RULE = FrameRule(TensorSpec("input", (1, 8, 2)), "series", 4)


def table_of(values: np.ndarray) -> BinTable:
    return BinTable([equal_mass_edges(column) for column in values.T])


def test_rows_are_taken_in_turn_until_the_shortest_ends() -> None:
    values = np.arange(22, dtype=np.float32)[:, np.newaxis]
    recording = np.array([5] * 9 + [2] * 11 + [7] * 2)
    found, recordings = interleave(values, recording, 4)
    assert recordings == 2
    assert found[:, 0].tolist() == [
        *range(4),
        *range(9, 13),
        *range(4, 8),
        *range(13, 17),
    ]


def make_rows(shift: float, seed: int = 1) -> Rows:
    """Four groups of three recordings; ``shift`` moves feature 0 between groups."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(12, 400, 2))
    values[:, :, 0] += shift * (np.arange(12) // 3)[:, np.newaxis]
    recording = np.repeat(np.arange(12), 400)
    flat = values.reshape(-1, 2).astype(np.float32)
    return Rows(flat, recording, recording // 3)


def test_white_noise_has_the_variance_of_a_mean_of_one_unit() -> None:
    rows = make_rows(shift=0.0)
    found = unit_variances(rows, table_of(rows.values), RULE)
    assert (found.unit_rows, found.groups) == (4 * 3, 4)
    assert found.location_within == pytest.approx([1 / 12, 1 / 12], rel=0.25)
    assert np.array_equal(found.location_between, found.location_within)


def test_groups_that_differ_show_between_them_only() -> None:
    rows = make_rows(shift=1.0)
    found = unit_variances(rows, table_of(rows.values), RULE)
    assert found.location_between[0] > 5 * found.location_within[0]
    assert found.location_between[1] == found.location_within[1]


def test_without_recordings_there_are_no_groups() -> None:
    rows = make_rows(shift=0.0)
    found = unit_variances(Rows(rows.values, None, None), table_of(rows.values), RULE)
    assert (found.unit_rows, found.groups) == (4, 0)


def test_recordings_stand_for_groups_where_none_are_named() -> None:
    rows = make_rows(shift=0.0)
    found = unit_variances(
        Rows(rows.values, rows.recording, None), table_of(rows.values), RULE
    )
    assert (found.unit_rows, found.groups) == (4, 12)


def test_a_vector_counts_in_units_of_64_rows() -> None:
    rule = FrameRule(TensorSpec("input", (1, 2)), "vector", 1)
    values = np.random.default_rng(1).normal(size=(6400, 2)).astype(np.float32)
    found = unit_variances(Rows(values, None, None), table_of(values), rule)
    assert found.unit_rows == 64
    assert found.location_within == pytest.approx([1 / 64, 1 / 64], rel=0.5)


def test_recordings_shorter_than_a_unit_are_refused() -> None:
    values = np.random.default_rng(1).normal(size=(9, 2)).astype(np.float32)
    rows = Rows(values, np.repeat(np.arange(3), 3), None)
    with pytest.raises(ConvertDataError, match="expected a group with 4 rows"):
        unit_variances(rows, table_of(values), RULE)
