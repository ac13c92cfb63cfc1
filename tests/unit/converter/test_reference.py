# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest

from converter.data.dataset import open_dataset
from converter.data.rule import FrameRule
from converter.errors import ConvertUsageError
from converter.reference import build_outputs, build_reference, build_values
from converter.tensors import TensorSpec
from edge_contract.binning import BinTable
from edge_contract.profile import OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder
from tests.support.convert_inputs import FEATURES, HOP, LABELS, LENGTH, rows, save

RULE = FrameRule(TensorSpec("input", (1, LENGTH, FEATURES)), "series", HOP)
CLASSES = ("a", "b", "c")


def probabilities(count: int, seed: int = 1) -> np.ndarray:
    scores = np.random.default_rng(seed).gamma(0.4, size=(count, 3))
    found: np.ndarray = scores / scores.sum(axis=1, keepdims=True)
    return found.astype(np.float32)


def test_the_reference_counts_what_a_device_would_count(tmp_path: Path) -> None:
    data = open_dataset(str(save(tmp_path / "d.npz", **rows())), RULE)
    outputs = probabilities(320)
    truth = np.random.default_rng(2).integers(0, 3, 320)
    profile = build_reference(
        data, RULE, LABELS, build_outputs(CLASSES, outputs, truth)
    )
    builder = StatisticsBuilder(profile)
    builder.add_rows(data.rows().values)
    builder.add_outputs(outputs)
    counts, layout = builder.statistics.counts, profile.layout

    for index, one in enumerate(profile.features):
        assert np.array_equal(counts[layout.bins(index)], one.counts)
        exact = data.rows().values[:, index].astype(float)
        assert one.mean == pytest.approx(exact.mean(), rel=1e-9)
        assert one.sd == pytest.approx(exact.std(), rel=1e-9)
    assert counts[layout.below].sum() == counts[layout.above].sum() == 0
    found = profile.outputs
    assert isinstance(found, OutputReference)
    assert np.array_equal(counts[layout.classes], found.class_counts)
    assert np.array_equal(counts[layout.confidence], found.confidence_counts)
    assert np.array_equal(counts[layout.margin], found.margin_counts)
    right = int((outputs.argmax(axis=1) == truth).sum())
    assert found.confidence_correct.sum() == right
    assert (found.confidence_correct <= found.confidence_counts).all()
    assert profile.triads == ((0, 1, 2),)
    assert ReferenceProfile.decode(profile.encoded).encoded == profile.encoded


def test_the_confusion_matrix_and_repeats_are_those_of_the_data(
    tmp_path: Path,
) -> None:
    arrays = rows()
    x = arrays["x"]
    x[:, 0] = np.repeat(np.arange(len(x) // 4), 4)[: len(x)]  # runs of 3 repeats
    data = open_dataset(str(save(tmp_path / "d.npz", **arrays)), RULE)
    outputs = probabilities(320)
    truth = np.random.default_rng(2).integers(0, 3, 320)
    profile = build_reference(
        data, RULE, LABELS, build_outputs(CLASSES, outputs, truth)
    )

    found = ReferenceProfile.decode(profile.encoded)
    assert isinstance(found.outputs, OutputReference)
    confusion = found.outputs.confusion
    assert confusion is not None
    assert confusion.sum() == 320
    assert confusion.trace() == (outputs.argmax(axis=1) == truth).sum()
    assert confusion.sum(axis=0).tolist() == found.outputs.class_counts.tolist()
    first, second = found.features[:2]
    assert first.repeat_ppm == pytest.approx(750_000, rel=0.02)
    assert first.longest_run == 3
    assert (second.repeat_ppm, second.longest_run) == (0, 0)


def test_a_category_has_a_bin_for_each_frequent_value(tmp_path: Path) -> None:
    arrays = rows()
    modes = np.random.default_rng(5).integers(0, 20, len(arrays["x"]))
    arrays["x"][:, 1] = np.minimum(modes, 17)  # 17 is the most frequent
    data = open_dataset(str(save(tmp_path / "d.npz", **arrays)), RULE)
    outputs = build_outputs(CLASSES, probabilities(50), None)

    profile = build_reference(data, RULE, LABELS, outputs, (LABELS[1],))

    one = ReferenceProfile.decode(profile.encoded).features[1]
    assert one.categories is not None
    assert (one.bins, len(one.edges), len(one.categories)) == (16, 0, 15)
    assert 17 in one.categories
    kept = np.isin(arrays["x"][:, 1], one.categories)
    assert one.counts[-1] == (~kept).sum() > 0
    assert outputs.confusion is None


def test_only_observed_features_are_categories(tmp_path: Path) -> None:
    data = open_dataset(str(save(tmp_path / "d.npz", **rows())), RULE)
    outputs = build_outputs(CLASSES, probabilities(50), None)

    with pytest.raises(ConvertUsageError, match="nowhere"):
        build_reference(data, RULE, LABELS, outputs, ("nowhere",))


def test_without_labels_nothing_counts_as_right() -> None:
    found = build_outputs(CLASSES, probabilities(50), None)
    assert found.confidence_correct.sum() == 0
    assert found.confidence_counts.sum() == 50


def test_the_last_bits_of_an_output_move_no_count() -> None:
    outputs = probabilities(200)
    nudged = np.nextafter(outputs, np.float32(1))
    first = build_outputs(CLASSES, outputs, None)
    second = build_outputs(CLASSES, nudged, None)
    assert np.array_equal(first.confidence_edges, second.confidence_edges)
    assert np.array_equal(first.confidence_counts, second.confidence_counts)
    assert np.array_equal(first.margin_counts, second.margin_counts)


@pytest.mark.parametrize(("width", "counted"), [(2, 2), (640, 9)])
def test_real_outputs_are_counted_as_a_device_would(width: int, counted: int) -> None:
    raw = np.random.default_rng(3).normal(size=(500, width)).astype(np.float32)
    found = build_values(raw)
    assert (found.width, len(found.values)) == (width, counted)
    for index, one in enumerate(found.values):
        values = np.ascontiguousarray(found.reduce(raw)[:, index : index + 1])
        assert np.array_equal(BinTable([one.edges]).count(values), one.counts)
        assert one.counts.sum() == 500
        assert one.counts.max() < 70


def test_the_last_bits_of_a_real_output_change_nothing() -> None:
    raw = np.random.default_rng(3).normal(size=(500, 3)).astype(np.float32)
    nudged = np.nextafter(raw, np.float32(9))
    for first, second in zip(
        build_values(raw).values, build_values(nudged).values, strict=True
    ):
        assert np.array_equal(first.edges, second.edges)
        assert np.array_equal(first.counts, second.counts)
        assert (first.mean, first.sd) == (second.mean, second.sd)
        assert (first.low, first.high) == (second.low, second.high)
