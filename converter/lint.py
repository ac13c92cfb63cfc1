# SPDX-License-Identifier: Apache-2.0
"""What data must satisfy before a build relies on it.

Owns the smallest counts and the warnings. Pure rules over a ``Dataset``; reading is in
``data``.
"""

import hashlib
from typing import Final

from converter.data.dataset import Dataset
from converter.errors import ConvertDataError

MIN_FRAMES: Final = 16
FEW_FRAMES: Final = 100


def check_count(data: Dataset, use: str) -> None:
    """Refuse data with too few frames.

    Raises:
        ConvertDataError: Fewer than ``MIN_FRAMES`` frames.
    """
    if len(data.frames) < MIN_FRAMES:
        msg = f"{data.source}: {use} needs at least {MIN_FRAMES} frames"
        msg += f", found {len(data.frames)} (of {len(data.rows.values)} rows)"
        raise ConvertDataError(msg, next_step="collect more data")


def check_labels(data: Dataset, classes: int) -> None:
    """Refuse labels that the model has no output for.

    Raises:
        ConvertDataError: A label outside 0 .. ``classes`` - 1.
    """
    if data.labels is None:
        return
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        msg = f"{data.source}: y: expected labels 0 to {classes - 1}"
        msg += f" (the model's outputs), found {low} to {high}"
        raise ConvertDataError(msg, next_step="map the labels as in training")


def warnings_of(
    calibration: Dataset, validation: Dataset, features: tuple[str, ...], classes: int
) -> tuple[str, ...]:
    """Return what is odd but not wrong, one sentence each."""
    found: list[str] = []
    values = calibration.rows.values
    constant = [
        name
        for name, low, high in zip(
            features, values.min(axis=0), values.max(axis=0), strict=True
        )
        if low == high
    ]
    if constant:
        found.append(f"{calibration.source}: never changes: {', '.join(constant)}")
    if len(calibration.frames) < FEW_FRAMES:
        found.append(
            f"{calibration.source}: {len(calibration.frames)} frames are few;"
            f" ranges and bins want {FEW_FRAMES} or more"
        )
    digests = [hashlib.sha256(one.tobytes()).digest() for one in calibration.frames]
    duplicates = len(digests) - len(set(digests))
    if duplicates:
        found.append(f"{calibration.source}: {duplicates} duplicate frames")
    if validation.sha256 == calibration.sha256:
        found.append(f"{validation.source}: validation is the calibration data itself")
    else:
        seen = set(digests)
        shared = sum(
            hashlib.sha256(one.tobytes()).digest() in seen for one in validation.frames
        )
        if shared:
            found.append(f"{validation.source}: {shared} frames are in calibration too")
    if validation.labels is not None:
        missing = classes - len(set(validation.labels.tolist()))
        if missing:
            found.append(f"{validation.source}: {missing} classes have no frame")
    return tuple(found)
