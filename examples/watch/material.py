# SPDX-License-Identifier: Apache-2.0
"""Which recordings a training may see, and which it must not.

Owns: the material of the first training and of the one after drift. Subjects 9 and
10 are in neither, nor is any row that a demo device replays to be judged.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass

from examples.watch import data

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TRAINING_SUBJECTS", "Material", "material_with", "right_arm_material"]

TRAINING_SUBJECTS = (*data.SPARE_SUBJECTS, *data.LIVE_SUBJECTS)


@dataclass(frozen=True)
class Material:
    """The recordings of one training.

    Attributes:
        training: Rows that move the weights.
        calibration: Rows of the reference profile and of the int8 ranges.
        validation: Labelled rows for the choice of a variant; never trained on.
    """

    training: tuple[data.Recording, ...]
    calibration: tuple[data.Recording, ...]
    validation: tuple[data.Recording, ...]


def right_arm_material(recordings: Sequence[data.Recording]) -> Material:
    """The first training set: the right arm of subjects 1 to 8."""
    worn_right = data.select(recordings, TRAINING_SUBJECTS, "right")
    held_back = data.take_part(worn_right, "calibrate")
    return Material(data.take_part(worn_right, "train"), held_back, held_back)


def material_with(
    recordings: Sequence[data.Recording], samples: Sequence[data.Recording]
) -> Material:
    """The right-arm material, the spare subjects' left arm, and labelled samples.

    The spare left-arm rows from 60 % to 75 % are kept for validation. A sample is
    too short to be divided: it trains and calibrates, and validates nothing.
    """
    right = right_arm_material(recordings)
    spare = data.select(recordings, data.SPARE_SUBJECTS, "left")
    held_back = data.take_part(spare, "calibrate")
    return Material(
        training=(
            *right.training,
            *data.take_part(spare, "train"),
            *data.take_part(spare, "replay"),
            *samples,
        ),
        calibration=(*right.calibration, *held_back, *samples),
        validation=(*right.validation, *held_back),
    )
