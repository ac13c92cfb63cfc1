# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.data.dataset import FrameRule, frame_rule, load_dataset
from converter.errors import ConvertDataError, ConvertShapeError
from converter.tensors import TensorSpec
from tests.support.convert_inputs import FEATURES, HOP, LENGTH, rows, save

RULE = FrameRule(TensorSpec("input", (1, LENGTH, FEATURES)), "series", HOP)


def test_rows_become_frames_within_each_recording(tmp_path: Path) -> None:
    values = np.arange(40 * FEATURES, dtype=np.float32).reshape(40, FEATURES)
    recording = np.array(["b"] * 17 + ["a"] * 23)
    data = load_dataset(
        save(tmp_path / "d.npz", x=values, recording=recording, y=np.arange(40)), RULE
    )

    ends = [8, 12, 16, 17 + 8, 17 + 12, 17 + 16, 17 + 20]
    assert data.recording.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert data.labels is not None
    assert data.labels.tolist() == [end - 1 for end in ends]
    for frame, end in zip(data.frames, ends, strict=True):
        assert np.array_equal(frame, values[end - LENGTH : end])
    assert np.array_equal(data.rows.values, values)


def test_overlapping_frames_are_observed_once_a_row(tmp_path: Path) -> None:
    arrays = rows(recordings=2, length=20)
    cut = load_dataset(save(tmp_path / "rows.npz", **arrays), RULE)
    again = load_dataset(
        save(tmp_path / "frames.npz", x=cut.frames, recording=cut.recording), RULE
    )
    assert np.array_equal(again.frames, cut.frames)
    assert np.array_equal(again.rows.values, cut.rows.values)
    assert again.rows.recording is not None
    assert cut.rows.recording is not None
    assert np.array_equal(again.rows.recording, cut.rows.recording)


def test_a_file_without_recordings_is_one_stream(tmp_path: Path) -> None:
    values = np.ones((20, FEATURES), dtype=np.float32)
    data = load_dataset(save(tmp_path / "d.npz", x=values), RULE)
    assert data.frames.shape == (4, LENGTH, FEATURES)
    assert data.rows.recording is None
    assert data.labels is None


def test_vectors_are_their_own_rows(tmp_path: Path) -> None:
    rule = frame_rule(TensorSpec("input", (1, 4)), None, None)
    values = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    data = load_dataset(save(tmp_path / "d.npz", x=values), rule)
    assert rule.observe == "vector"
    assert np.array_equal(data.rows.values, values)
    assert np.array_equal(data.frames, values)


GOOD = rows(recordings=3, length=20)
NAN = GOOD["x"].copy()
NAN[7, 1] = np.nan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": GOOD["x"].astype(np.float64)}, "expected dtype float32, found float64"),
        ({"x": GOOD["x"][:, :2]}, r"expected shape \[n, 8, 3\] or \[n, 3\]"),
        ({"x": NAN}, r"found 1 NaN or infinite, the first at \[7, 1\]"),
        ({"y": GOOD["y"][:5]}, "y: expected 60 integers"),
        ({"y": GOOD["y"].astype(np.float32)}, "y: expected 60 integers"),
        ({"recording": np.arange(60) % 2}, "rows of each recording together"),
        ({"recording": np.ones(60)}, "recording: expected 60 integers or texts"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "d.npz", **{**GOOD, **changed})
    with pytest.raises(ConvertDataError, match=message):
        load_dataset(path, RULE)


def test_files_that_are_not_of_the_form_are_refused(tmp_path: Path) -> None:
    objects = tmp_path / "objects.npz"
    np.savez(objects, x=np.array([{"not": "numbers"}], dtype=object))
    single = tmp_path / "single.npz"
    with single.open("wb") as stream:
        np.save(stream, GOOD["x"])
    text = tmp_path / "text.npz"
    text.write_text("x,y\n1,2\n")
    cut = tmp_path / "cut.npz"
    whole = save(tmp_path / "whole.npz", **GOOD).read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    unnamed = save(tmp_path / "unnamed.npz", inputs=GOOD["x"])
    for path in (objects, single, text, cut, unnamed, tmp_path / "absent.npz"):
        with pytest.raises(ConvertDataError, match="Next: "):
            load_dataset(path, RULE)


@pytest.mark.parametrize("hop", [0, LENGTH + 1])
def test_a_hop_beyond_the_frame_is_refused(hop: int) -> None:
    with pytest.raises(ConvertShapeError, match="--hop: expected 1 to 8"):
        frame_rule(RULE.input, None, hop)


def test_an_image_is_refused() -> None:
    with pytest.raises(ConvertShapeError, match=r"\[1, C\] or \[1, T, C\]"):
        frame_rule(TensorSpec("input", (1, 9, 9, 3)), None, None)
