# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import lint
from converter.data.dataset import Dataset, open_dataset
from converter.data.frames import ArrayFrames
from converter.data.rule import FrameRule, frame_rule
from converter.errors import ConvertDataError
from converter.tensors import TensorSpec
from tests.support.convert_inputs import FEATURES, HOP, LABELS, LENGTH, rows, save

PIXELS = {"step": "scale", "factor": "0.00392156862", "offset": "0"}
RULE = FrameRule(TensorSpec("input", (1, LENGTH, FEATURES)), "series", HOP)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset(str(save(tmp_path / "d.npz", **rows())), RULE)


def stream(data: Dataset) -> np.ndarray:
    return np.concatenate(list(data.frames))


def warned(calibration: Dataset, validation: Dataset) -> tuple[str, ...]:
    surveys = lint.survey(calibration), lint.survey(validation)
    return lint.warnings_of(calibration, validation, surveys, RULE, 3)


def test_three_frames_are_too_few(data: Dataset) -> None:
    few = replace(data, frames=ArrayFrames(stream(data)[:3]))
    with pytest.raises(ConvertDataError, match="at least 16 frames, found 3"):
        lint.check_count(few, "calibration")
    lint.check_count(data, "calibration")


def test_a_label_without_an_output_is_refused(data: Dataset) -> None:
    lint.check_labels(data, 3)
    with pytest.raises(ConvertDataError, match="expected labels 0 to 1"):
        lint.check_labels(data, 2)
    targets = replace(data, labels=np.zeros((len(data.frames), 1), dtype=np.float32))
    with pytest.raises(ConvertDataError, match="expected class numbers"):
        lint.check_labels(targets, 3)


def test_good_data_gives_no_warning(tmp_path: Path, data: Dataset) -> None:
    other = open_dataset(str(save(tmp_path / "v.npz", **rows(seed=2))), RULE)
    assert warned(data, other) == ()
    assert lint.warn_constant("c", LABELS, data.rows().values) == []


def test_what_is_odd_is_said(tmp_path: Path, data: Dataset) -> None:
    arrays = rows(recordings=3, length=40)
    arrays["x"][:, 1] = 5.0
    arrays["x"][40:80] = arrays["x"][:40]
    odd = open_dataset(str(save(tmp_path / "odd.npz", **arrays)), RULE)
    leaking = replace(odd, source="v.npz", sha256="other", labels=np.zeros(27, int))
    assert warned(odd, leaking) == (
        "odd.npz: 27 frames are few; ranges and bins want 100 or more",
        "odd.npz: 9 duplicate frames; drop them",
        "v.npz: 27 frames are in calibration too; drop them",
        "v.npz: 2 classes have no frame; their accuracy is unknown",
    )
    assert lint.warn_constant("odd.npz", LABELS, odd.rows().values) == [
        "odd.npz: never changes: ay; is the sensor alive?"
    ]
    assert warned(data, data) == (
        "d.npz: validation is the calibration data itself; keep some apart",
    )
    far = replace(
        data, source="v.npz", sha256="far", frames=ArrayFrames(stream(data) * 3)
    )
    assert warned(data, far)[0].startswith("v.npz: inputs reach ")


def image_data(folder: Path, values: np.ndarray, **declared: Any) -> tuple[Any, ...]:
    rule = frame_rule(TensorSpec("input", (1, 6, 6, 1)), None, None, **declared)
    data = open_dataset(str(save(folder / "i.npz", x=values)), rule)
    return data, lint.survey(data), rule


def test_raw_pixels_are_noticed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (120, 6, 6, 1)).astype("f4")
    data, found, rule = image_data(tmp_path, pixels)
    warnings = lint.warnings_of(data, data, (found, found), rule, 0)
    assert "look like raw pixels" in warnings[0]
    lint.check_range(data, found, rule, None)
    with pytest.raises(ConvertDataError, match=r"expected inputs from 0 to 1 .* 255"):
        lint.check_range(data, found, rule, (0.0, 1.0))


def test_scaling_twice_is_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((120, 6, 6, 1), dtype=np.float32)
    data, found, rule = image_data(tmp_path, values, pre=(PIXELS,))
    with pytest.raises(ConvertDataError, match="leave --scale out"):
        lint.check_range(data, found, rule, None)
