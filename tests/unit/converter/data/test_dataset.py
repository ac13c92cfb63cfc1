# SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.data.dataset import Dataset, Rows, open_dataset
from converter.data.rule import FrameRule, frame_rule
from converter.errors import ConvertDataError, ConvertShapeError
from converter.tensors import TensorSpec
from tests.support.convert_inputs import FEATURES, HOP, LENGTH, rows, save


def load_dataset(path: Path, rule: FrameRule) -> Dataset:
    return open_dataset(str(path), rule)


def frames_of(data: Dataset) -> np.ndarray:
    return np.concatenate(list(data.frames))


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
    for frame, end in zip(frames_of(data), ends, strict=True):
        assert np.array_equal(frame, values[end - LENGTH : end])
    assert np.array_equal(data.rows().values, values)


def test_overlapping_frames_are_observed_once_a_row(tmp_path: Path) -> None:
    arrays = rows(recordings=2, length=20)
    cut = load_dataset(save(tmp_path / "rows.npz", **arrays), RULE)
    again = load_dataset(
        save(tmp_path / "frames.npz", x=frames_of(cut), recording=cut.recording), RULE
    )
    assert np.array_equal(frames_of(again), frames_of(cut))
    assert np.array_equal(again.rows().values, cut.rows().values)
    first, second = cut.rows().recording, again.rows().recording
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)


def test_a_file_without_recordings_is_one_stream(tmp_path: Path) -> None:
    values = np.ones((20, FEATURES), dtype=np.float32)
    data = load_dataset(save(tmp_path / "d.npz", x=values), RULE)
    assert frames_of(data).shape == (4, LENGTH, FEATURES)
    assert data.rows().recording is None
    assert data.labels is None


def test_vectors_are_their_own_rows(tmp_path: Path) -> None:
    rule = frame_rule(TensorSpec("input", (1, 4)), None, None)
    values = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    data = load_dataset(save(tmp_path / "d.npz", x=values), rule)
    assert rule.observe == "vector"
    assert np.array_equal(data.rows().values, values)
    assert np.array_equal(frames_of(data), values)


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
        ({"y": GOOD["y"].astype(str)}, "store the number of the class"),
        ({"y": GOOD["y"].astype(np.float32) + np.nan}, "y: expected 60 integers"),
        ({"recording": np.arange(60) % 2}, "rows of each recording together"),
        ({"recording": np.ones(60)}, "recording: expected 60 integers or texts"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "d.npz", **{**GOOD, **changed})
    with pytest.raises(ConvertDataError, match=message):
        list(load_dataset(path, RULE).frames)


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


@pytest.mark.parametrize(
    ("shape", "asked", "kind", "features"),
    [
        ((1, 64), None, "vector", 64),
        ((1, 65), None, "embedding", 9),
        ((1, 8, 3), None, "series", 3),
        ((1, 12, 12, 3), None, "image", 5),
        ((1, 2, 2, 2, 2), None, "embedding", 9),
        ((1, 400), "audio", "audio", 13),
    ],
)
def test_what_is_observed_follows_the_shape(
    tmp_path: Path, shape: tuple[int, ...], asked: Any, kind: str, features: int
) -> None:
    rule = frame_rule(TensorSpec("input", shape), asked, None)
    assert (rule.observe, rule.features) == (kind, features)
    values = np.random.default_rng(1).random((20, *shape[1:]), dtype=np.float32)
    data = load_dataset(save(tmp_path / "d.npz", x=values), rule)
    observed = 20 * shape[1] if kind == "series" else 20
    assert data.rows().values.shape == (observed, features)
    flat = load_dataset(save(tmp_path / "f.npz", x=values.reshape(20, -1)), rule)
    if kind != "series":
        assert np.array_equal(frames_of(flat), frames_of(data))


def test_a_kind_that_does_not_fit_the_shape_is_refused() -> None:
    with pytest.raises(ConvertShapeError, match=r"expected frames \[H, W, C\]"):
        frame_rule(TensorSpec("input", (1, 9)), "image", None)


def test_pixels_are_taken_where_a_scale_is_declared(tmp_path: Path) -> None:
    spec = TensorSpec("input", (1, 6, 6, 1))
    pixels = np.random.default_rng(1).integers(0, 256, (20, 6, 6, 1), dtype=np.uint8)
    path = save(tmp_path / "d.npz", x=pixels)
    step = {"step": "scale", "factor": "0.00392156862745098", "offset": "0"}
    scaled = frame_rule(spec, None, None, pre=(step,))
    data = load_dataset(path, scaled)
    assert np.allclose(frames_of(data), pixels / 255, atol=1e-6)
    assert scaled.value_range == ("0", "255")
    assert data.rows().values[:, 0] == pytest.approx(pixels.mean((1, 2, 3)) / 255)
    with pytest.raises(ConvertDataError, match="declare what the model wants"):
        load_dataset(path, frame_rule(spec, None, None))


def test_frames_can_be_taken_by_their_positions(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path / "d.npz", **rows(length=400)), RULE)
    everything = frames_of(data)
    assert len(everything) == len(data.frames) > 600
    wanted = np.array([0, 255, 256, 511, 600])
    assert np.array_equal(data.frames.take(wanted), everything[wanted])


def test_held_rows_are_the_first_that_fit(tmp_path: Path) -> None:
    data = load_dataset(save(tmp_path / "d.npz", **rows()), RULE)
    held = data.rows(max_bytes=100 * FEATURES * 4)
    assert isinstance(held, Rows)
    assert np.array_equal(held.values, data.rows().values[:100])
    assert held.group is not None
    assert len(held.group) == 100


def test_a_group_of_another_name_is_used(tmp_path: Path) -> None:
    arrays = rows()
    arrays["wearer"] = arrays.pop("group")
    path = save(tmp_path / "d.npz", **arrays)
    named = open_dataset(str(path), RULE, group="wearer").rows().group
    assert named is not None
    assert sorted(set(named.tolist())) == [0, 1, 2, 3]
    assert load_dataset(path, RULE).rows().group is None
