# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contract.binning import (
    BinTable,
    equal_mass_edges,
    location_contrast,
    normal_scores,
    scale_contrast,
)
from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import ProfileError
from edge_contract.profile import OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, check_statistics
from tests.conformance.samples import full_profile
from tests.support.contract_samples import make_profile


def test_round_trip_keeps_bytes_and_id() -> None:
    profile = make_profile()

    again = ReferenceProfile.decode(profile.encoded)

    assert again.encoded == profile.encoded
    assert again.ref_id == profile.ref_id
    assert again.triads == ((0, 1, 2),)


def test_ten_features_fit_in_four_kilobytes() -> None:
    assert len(make_profile(10, 7).encoded) <= 4096


def test_the_layout_covers_the_vector_without_gap_or_overlap() -> None:
    layout = make_profile(3, 4).layout
    parts = [layout.bins(f) for f in range(3)]
    parts += [layout.missing, layout.below, layout.above, layout.repeat]
    parts += [layout.classes, layout.confidence, layout.margin]

    covered = [index for part in parts for index in range(part.start, part.stop)]

    assert covered == list(range(layout.size))
    assert layout.size == 3 * 16 + 4 * 3 + 4 + 16 + 8


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((1,), 2),
        ((2,), "sound"),
        ((3,), []),
        ((3, 0, 1), ""),
        ((3, 0, 2), b"abc"),
        ((3, 0, 2), np.array([np.nan] * 15, "<f4").tobytes()),
        ((3, 0, 2), np.array([1, 0], "<f4").tobytes()),
        ((3, 0, 3), [1]),
        ((3, 0, 3), [-1] * 16),
        ((3, 0, 3), [0] * 16),
        ((3, 0, 5), bytes(4)),
        ((3, 0, 5), np.array([0, -1, 0, 0, 0, 0, 0, 0], "<f4").tobytes()),
        ((4, 1), []),
        ((4, 2), [1]),
        ((4, 4), [1]),
        ((5,), 0),
        ((6,), -1),
        ((7,), [[0, 1, 3]]),
        ((7,), [[0, 1]]),
        ((3, 0, 6), np.array([1, 2], "<f4").tobytes()),
        ((3, 0, 6), b""),
        ((3, 0, 7), [1]),
        ((3, 0, 7), [-1, 0]),
        ((3, 0, 7), [1_000_001, 0]),
        ((4, 8), b"\x01\x02"),
        ((4, 8), [[1]]),
    ],
)
def test_inconsistent_profiles_are_refused(
    path: tuple[int, ...], value: object
) -> None:
    wire = decode_cbor(make_profile().encoded, max_bytes=10_000)
    place = wire
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    with pytest.raises(ProfileError):
        ReferenceProfile.decode(encode_cbor(wire))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xa0", b"\x80", b"\xff"])
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProfileError):
        ReferenceProfile.decode(data)


def test_a_constant_feature_has_one_bin() -> None:
    edges = equal_mass_edges(np.full(100, 3.0, dtype=np.float32))

    counts = BinTable([edges]).count(np.array([[1], [3], [9]], np.float32))

    assert edges.tolist() == []
    assert counts.tolist() == [3]


def test_equal_mass_means_equal_mass() -> None:
    values = np.random.default_rng(3).gumbel(size=1600).astype(np.float32)

    counts = BinTable([equal_mass_edges(values)]).count(values[:, np.newaxis])

    assert counts.tolist() == [100] * 16


def test_contrasts_read_shift_and_spread_in_reference_sd() -> None:
    rng = np.random.default_rng(4)
    reference = rng.normal(size=20_000).astype(np.float32)
    table = BinTable([equal_mass_edges(reference)])
    scores = normal_scores(table.count(reference[:, np.newaxis]))

    moved = table.count((reference + 0.5)[:, np.newaxis])
    wider = table.count((reference * 1.5)[:, np.newaxis])

    assert location_contrast(moved, scores) == pytest.approx(0.5, abs=0.06)
    assert scale_contrast(moved, scores) == pytest.approx(0.0, abs=0.12)
    assert location_contrast(wider, scores) == pytest.approx(0.0, abs=0.02)
    assert scale_contrast(wider, scores) > 0.4


def categorical(values: list[float], counts: list[int]) -> ReferenceProfile:
    profile = make_profile()
    mode = replace(
        profile.features[0],
        edges=np.zeros(0, dtype=np.float32),
        categories=np.array(values, dtype=np.float32),
        counts=np.array(counts, dtype=np.int64),
    )
    return replace(profile, features=(mode, *profile.features[1:]))


@given(st.lists(st.sampled_from([-3.0, 0.0, 1.0, 2.5, 9.0, np.nan, np.inf])))
def test_a_category_counts_its_values_others_and_missing_ones(
    found: list[float],
) -> None:
    profile = ReferenceProfile.decode(categorical([0, 1, 9], [5, 5, 5, 0]).encoded)
    rows = np.zeros((len(found), 3), dtype=np.float32)
    rows[:, 0] = found
    builder = StatisticsBuilder(profile)
    builder.add_rows(rows)

    counts, layout = builder.statistics.counts, profile.layout
    others = len([one for one in found if one in {-3.0, 2.5}])
    expected = [found.count(0.0), found.count(1.0), found.count(9.0), others]
    assert counts[layout.bins(0)].tolist() == expected
    assert counts[layout.missing][0] == len(found) - sum(expected)
    check_statistics(builder.statistics, profile)


def test_a_full_profile_survives_its_bytes() -> None:
    profile = full_profile()

    again = ReferenceProfile.decode(profile.encoded)

    mode, outputs = again.features[1], again.outputs
    assert mode.categories is not None
    assert mode.categories.tolist() == [1, 2, 7]
    assert (mode.repeat_ppm, mode.longest_run, mode.bins) == (250_000, 6, 4)
    assert isinstance(outputs, OutputReference)
    assert outputs.confusion is not None
    assert outputs.confusion.tolist() == [[3, 1], [0, 300]]
    assert again.encoded == profile.encoded


def test_what_an_old_profile_does_not_tell_takes_no_byte() -> None:
    wire = decode_cbor(make_profile().encoded, max_bytes=10_000)

    assert set(wire[3][0]) == {1, 2, 3, 4, 5}
    assert set(wire[4]) == {1, 2, 3, 4, 5, 6, 7}


def test_ten_features_with_all_that_is_told_fit_in_four_kilobytes() -> None:
    profile = make_profile(10, 7)
    features = tuple(
        replace(one, repeat_ppm=999_999, longest_run=70_000) for one in profile.features
    )
    confusion = np.full((7, 7), 100_000, dtype=np.int64)
    assert isinstance(profile.outputs, OutputReference)
    outputs = replace(profile.outputs, confusion=confusion)

    assert len(replace(profile, features=features, outputs=outputs).encoded) <= 4096
