# SPDX-License-Identifier: Apache-2.0
"""Steps from what a source delivers to what the model takes.

A step is a JSON object with its name under ``step`` and its numbers as decimal
strings. Unknown steps are refused, never skipped. Statistics observe what the source
delivers, before these steps.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError
from edge_contract.steps.post import StepSpec

Float32 = NDArray[np.float32]
_SCALE = {"step", "factor", "offset"}


def check_pre(steps: Sequence[StepSpec]) -> None:
    """Refuse steps that this version does not know, or whose numbers are none.

    Raises:
        StepError: A step is unknown, has unknown parameters, or no finite numbers.
    """
    for step in steps:
        if step.get("step") != "scale" or set(step) != _SCALE:
            msg = "pre-processing: expected a scale with factor and offset"
            msg += f", found {dict(step)!r}"
            raise StepError(msg, next_step="update this program")
        try:
            numbers = float(step["factor"]), float(step["offset"])
        except ValueError as error:
            msg = f"pre-processing: expected decimal numbers, found {dict(step)!r}"
            raise StepError(msg, next_step="build the bundle again") from error
        if not all(math.isfinite(one) for one in numbers) or numbers[0] == 0:
            msg = f"pre-processing: expected finite numbers, found {dict(step)!r}"
            raise StepError(msg, next_step="build the bundle again")


def apply_pre(steps: Sequence[StepSpec], frames: Float32) -> Float32:
    """Apply checked ``steps`` to frames, float32 of any shape.

    >>> step = {"step": "scale", "factor": "0.5", "offset": "1"}
    >>> apply_pre((step,), np.array([2.0], np.float32)).tolist()
    [2.0]
    """
    for step in steps:
        factor, offset = np.float32(step["factor"]), np.float32(step["offset"])
        frames = frames * factor + offset
    return frames
