# SPDX-License-Identifier: Apache-2.0
"""Augmentation of inertial frames: a watch that is strapped on at another angle.

Owns: random tilts of both triads. It knows numpy only, no training framework.
"""

from __future__ import annotations

import typing

import numpy as np

if typing.TYPE_CHECKING:
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]
    Int32 = npt.NDArray[np.int32]

__all__ = ["augment", "random_rotations"]

_COPIES = 2
_TILT_DEGREES = 15.0


def augment(frames: Float32, labels: Int32, *, seed: int) -> tuple[Float32, Int32]:
    """Add copies as if the watch had been strapped on at a slightly other angle.

    Returns:
        The frames and `_COPIES` tilted copies of each, with their labels. A tilt
        turns both triads alike and scales the angular rate by about a tenth.
    """
    generator = np.random.default_rng(seed)
    copies = [frames]
    for _ in range(_COPIES):
        turn = random_rotations(len(frames), _TILT_DEGREES, generator)
        pace = generator.normal(1.0, 0.1, (len(frames), 1, 1))
        acceleration = np.einsum("ntc,nkc->ntk", frames[..., :3], turn)
        rate = np.einsum("ntc,nkc->ntk", frames[..., 3:], turn) * pace
        copies.append(np.concatenate([acceleration, rate], 2).astype(np.float32))
    return np.concatenate(copies), np.tile(labels, len(copies))


def random_rotations(
    count: int, spread_degrees: float, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Rotation matrices [count, 3, 3] about random axes by normal angles.

    Rodrigues' formula: R = I + sin(a) K + (1 - cos(a)) K K, with K the
    cross-product matrix of the axis.
    """
    axis = generator.normal(size=(count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.deg2rad(generator.normal(0.0, spread_degrees, count))[:, None, None]
    cross = np.cross(axis[:, None, :], np.eye(3)[None]).transpose(0, 2, 1)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
