# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import lint
from converter.data.dataset import Dataset, FrameRule, load_dataset
from converter.errors import ConvertDataError
from converter.tensors import TensorSpec
from tests.support.convert_inputs import FEATURES, HOP, LABELS, LENGTH, rows, save

RULE = FrameRule(TensorSpec("input", (1, LENGTH, FEATURES)), "series", HOP)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return load_dataset(save(tmp_path / "d.npz", **rows()), RULE)


def test_three_frames_are_too_few(data: Dataset) -> None:
    few = replace(data, frames=data.frames[:3])
    with pytest.raises(ConvertDataError, match="at least 16 frames, found 3"):
        lint.check_count(few, "calibration")
    lint.check_count(data, "calibration")


def test_a_label_without_an_output_is_refused(data: Dataset) -> None:
    lint.check_labels(data, 3)
    with pytest.raises(ConvertDataError, match="expected labels 0 to 1"):
        lint.check_labels(data, 2)


def test_good_data_gives_no_warning(tmp_path: Path, data: Dataset) -> None:
    other = load_dataset(save(tmp_path / "v.npz", **rows(seed=2)), RULE)
    assert lint.warnings_of(data, other, LABELS, 3) == ()


def test_what_is_odd_is_said(tmp_path: Path, data: Dataset) -> None:
    arrays = rows(recordings=3, length=40)
    arrays["x"][:, 1] = 5.0
    arrays["x"][40:80] = arrays["x"][:40]
    odd = load_dataset(save(tmp_path / "odd.npz", **arrays), RULE)
    leaking = replace(odd, source="v.npz", sha256="other", labels=np.zeros(27, int))
    assert lint.warnings_of(odd, leaking, LABELS, 3) == (
        "odd.npz: never changes: ay",
        "odd.npz: 27 frames are few; ranges and bins want 100 or more",
        "odd.npz: 9 duplicate frames",
        "v.npz: 27 frames are in calibration too",
        "v.npz: 2 classes have no frame",
    )
    same = lint.warnings_of(data, data, LABELS, 3)
    assert same == ("d.npz: validation is the calibration data itself",)
