# SPDX-License-Identifier: Apache-2.0
"""No training sees rows that a later step judges."""

import numpy as np
import pytest

from examples.watch import data
from examples.watch.augment import augment, random_rotations
from examples.watch.material import material_with, right_arm_material


@pytest.fixture(scope="module")
def recordings() -> tuple[data.Recording, ...]:
    return data.load_recordings()


def rows_of(recordings: tuple[data.Recording, ...]) -> set[tuple[str, bytes]]:
    return {(r.name, row.tobytes()) for r in recordings for row in r.rows}


def test_first_material_is_the_right_arm_of_subjects_one_to_eight(
    recordings: tuple[data.Recording, ...],
) -> None:
    material = right_arm_material(recordings)
    for part in (material.training, material.calibration, material.validation):
        assert {r.arm for r in part} == {"right"}
        assert {r.subject for r in part} == set(range(1, 9))
    held_back = rows_of(material.validation)
    assert not rows_of(material.training) & held_back


def test_second_material_adds_left_arms_and_never_what_is_judged(
    recordings: tuple[data.Recording, ...],
) -> None:
    left = data.select(recordings, (5, 7), "left")
    material = material_with(recordings, data.take_part(left, "labelled"))
    training = rows_of(material.training)
    assert {r.subject for r in material.training if r.arm == "left"} == {1, 2, 5, 7}
    assert not training & rows_of(material.validation)
    assert not training & rows_of(data.take_part(left, "unlabelled"))
    worn_right = data.select(recordings, data.LIVE_SUBJECTS, "right")
    assert not training & rows_of(data.take_part(worn_right, "replay"))
    assert {r.subject for r in material.validation if r.arm == "left"} == {1, 2}


def test_rotations_are_rotations() -> None:
    turns = random_rotations(50, 15.0, np.random.default_rng(1))
    identity = np.broadcast_to(np.eye(3), (50, 3, 3))
    assert np.allclose(turns @ turns.transpose(0, 2, 1), identity)
    assert np.allclose(np.linalg.det(turns), 1.0)


def test_augmented_copies_keep_label_and_the_length_of_acceleration() -> None:
    generator = np.random.default_rng(2)
    frames = generator.normal(size=(4, 128, 6)).astype(np.float32)
    labels = np.array([0, 3, 5, 6], np.int32)
    x, y = augment(frames, labels, seed=7)
    assert np.array_equal(x[:4], frames)
    assert y.tolist() == labels.tolist() * 3
    length = np.linalg.norm(frames[..., :3], axis=2)
    for copy in (x[4:8], x[8:12]):
        assert not np.array_equal(copy, frames)
        assert np.allclose(np.linalg.norm(copy[..., :3], axis=2), length, atol=1e-5)
