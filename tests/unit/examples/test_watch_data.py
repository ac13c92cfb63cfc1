# SPDX-License-Identifier: Apache-2.0
"""The recordings are the pinned ones and no frame crosses a split."""

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from examples.watch import data


@pytest.fixture(scope="module")
def recordings() -> tuple[data.Recording, ...]:
    return data.load_recordings()


def test_every_wearer_did_every_exercise_with_both_arms(
    recordings: tuple[data.Recording, ...],
) -> None:
    assert len(recordings) == 140
    assert len({r.name for r in recordings}) == 140
    assert sum(len(r.rows) for r in recordings) == 244_102
    assert {r.rows.dtype for r in recordings} == {np.dtype(np.float32)}
    assert all(r.rows.shape[1] == 6 and np.isfinite(r.rows).all() for r in recordings)


def test_arm_of_the_training_side_points_the_other_way(
    recordings: tuple[data.Recording, ...],
) -> None:
    means = {
        arm: np.concatenate(
            [r.rows[:, 0] for r in data.select(recordings, range(1, 11), arm)]
        ).mean()
        for arm in ("left", "right")
    }
    assert means["left"] > 0 > means["right"]


def test_train_calibrate_and_replay_divide_a_recording_without_overlap(
    recordings: tuple[data.Recording, ...],
) -> None:
    for whole in recordings:
        parts = [
            data.take_part([whole], part)[0].rows
            for part in ("train", "calibrate", "replay")
        ]
        assert np.array_equal(np.concatenate(parts), whole.rows)


def test_labelled_and_unlabelled_divide_a_recording(
    recordings: tuple[data.Recording, ...],
) -> None:
    whole = recordings[0]
    parts = [
        data.take_part([whole], part)[0].rows for part in ("labelled", "unlabelled")
    ]
    assert np.array_equal(np.concatenate(parts), whole.rows)


def test_frames_are_consecutive_rows_one_hop_apart() -> None:
    rows = np.arange(300 * 6, dtype=np.float32).reshape(300, 6)
    frames = data.cut_frames(rows)
    assert frames.shape == (3, 128, 6)
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, rows[64 * index : 64 * index + 128])


def test_rows_shorter_than_a_frame_give_none() -> None:
    assert data.cut_frames(np.zeros((127, 6), np.float32)).shape == (0, 128, 6)


def test_stacked_frames_carry_the_label_of_their_recording(
    recordings: tuple[data.Recording, ...],
) -> None:
    chosen = recordings[:2]
    frames, labels = data.stack_frames(chosen)
    counts = [len(data.cut_frames(r.rows)) for r in chosen]
    assert len(frames) == sum(counts)
    assert labels.tolist() == [
        r.exercise for r, n in zip(chosen, counts, strict=True) for _ in range(n)
    ]


def test_written_rows_are_read_back_and_hold_no_pickle(
    tmp_path: Path, recordings: tuple[data.Recording, ...]
) -> None:
    path = tmp_path / "rows.npz"
    written = data.take_part(data.select(recordings, (3,), "left"), "labelled")
    data.write_rows(path, written)
    found = data.read_rows(path)
    assert [r.name for r in found] == [r.name for r in written]
    for before, after in zip(written, found, strict=True):
        assert (before.subject, before.arm) == (after.subject, after.arm)
        assert before.exercise == after.exercise
        assert np.array_equal(before.rows, after.rows)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.npz"]


def test_the_same_recordings_give_the_same_bytes(
    tmp_path: Path, recordings: tuple[data.Recording, ...]
) -> None:
    for name in ("a.npz", "b.npz"):
        data.write_rows(tmp_path / name, recordings[:3])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_another_file_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seglearn" / "data" / "watch_dataset.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another file")
    (tmp_path / "seglearn-1.2.5.dist-info").mkdir()
    foreign = metadata.Distribution.at(tmp_path / "seglearn-1.2.5.dist-info")
    monkeypatch.setattr(metadata, "distribution", lambda _name: foreign)
    with pytest.raises(data.WatchDataError, match=r"expected sha256 .*make setup"):
        data.load_recordings()


def test_an_absent_distribution_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(data.WatchDataError, match="make setup"):
        data.load_recordings()
