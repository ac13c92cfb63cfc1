# SPDX-License-Identifier: Apache-2.0
"""Steps from what a source delivers to what the model takes.

A step is a JSON object with its name under ``step`` and its numbers as decimal
strings. Unknown steps are refused, never skipped. Statistics observe what the source
delivers, before these steps. Where a step changes the shape it says what it takes, so
that the shape of a source's frame follows from the steps and the model.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError
from edge_contract.steps.log_mel import LogMel
from edge_contract.steps.parameters import Parameters, StepSpec
from edge_contract.steps.resize import Resize

Float32 = NDArray[np.float32]
PLACE: Final = "pre-processing"


class PreStep(Protocol):
    """One step, its numbers read."""

    @property
    def takes(self) -> tuple[int, ...] | None:
        """The one shape of a frame that it takes, without the batch; None: any."""

    def gives(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what comes of a frame of ``shape``; may refuse it."""

    def apply(self, frames: Float32) -> Float32:
        """Return what comes of frames, float32 [n, ...]."""


class Scale:
    """``x * factor + offset``, in float32."""

    takes: tuple[int, ...] | None = None

    def __init__(self, factor: float, offset: float) -> None:
        self._factor, self._offset = np.float32(factor), np.float32(offset)

    @classmethod
    def parse(cls, step: StepSpec, place: str) -> Self:
        """Read ``factor`` and ``offset``.

        Raises:
            StepError: No finite numbers, or a factor of 0.
        """
        parameters = Parameters(step, place, {"factor", "offset"})
        factor, offset = parameters.number("factor"), parameters.number("offset")
        if factor == 0:
            raise parameters.refused("a factor other than 0")
        return cls(factor, offset)

    def gives(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``shape``."""
        return shape

    def apply(self, frames: Float32) -> Float32:
        """Return scaled frames, float32 of any shape."""
        found: Float32 = frames * self._factor + self._offset
        return found


class Normalise:
    """``(x - mean) / sd`` in float32, for all values or a channel (the last axis)."""

    takes: tuple[int, ...] | None = None

    def __init__(self, mean: tuple[float, ...], sd: tuple[float, ...]) -> None:
        self._mean = np.array(mean, dtype=np.float32)
        self._sd = np.array(sd, dtype=np.float32)

    @classmethod
    def parse(cls, step: StepSpec, place: str) -> Self:
        """Read ``mean`` and ``sd``, a number or one a channel.

        Raises:
            StepError: No finite numbers, or an sd that is not above 0.
        """
        parameters = Parameters(step, place, {"mean", "sd"})
        mean, sd = parameters.numbers("mean"), parameters.numbers("sd")
        if len(mean) != len(sd):
            raise parameters.refused("as many of sd as of mean")
        if not all(one > 0 for one in sd):
            raise parameters.refused("an sd above 0")
        return cls(mean, sd)

    def gives(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return ``shape``.

        Raises:
            StepError: It has another number of channels.
        """
        count = len(self._mean)
        if count != 1 and shape[-1] != count:
            msg = f"normalise: expected {count} channels, found a frame {list(shape)}"
            raise StepError(msg, next_step="give one mean and sd, or one a channel")
        return shape

    def apply(self, frames: Float32) -> Float32:
        """Return normalised frames, float32 [..., C]."""
        found: Float32 = (frames - self._mean) / self._sd
        return found


_PRE: Final[Mapping[str, Callable[[StepSpec, str], PreStep]]] = {
    "log_mel": LogMel.parse,
    "normalise": Normalise.parse,
    "resize": Resize.parse,
    "scale": Scale.parse,
}


def check_pre(steps: Sequence[StepSpec]) -> None:
    """Refuse steps that this version does not know, or whose numbers are none.

    Raises:
        StepError: A step is unknown, or its parameters are not its own.
    """
    for step in steps:
        _parsed(tuple(sorted(step.items())))


def apply_pre(steps: Sequence[StepSpec], frames: Float32) -> Float32:
    """Apply checked ``steps`` to frames, float32 [n, *shape of a source's frame].

    >>> step = {"step": "scale", "factor": "0.5", "offset": "1"}
    >>> apply_pre((step,), np.array([2.0], np.float32)).tolist()
    [2.0]
    """
    for step in steps:
        frames = _parsed(tuple(sorted(step.items()))).apply(frames)
    return frames


def source_shape(
    steps: Sequence[StepSpec], model_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the shape of a frame as a source delivers it, without the batch.

    Args:
        steps: Steps before the model.
        model_shape: Shape of the model's input, without the batch.

    Raises:
        StepError: The steps do not lead to ``model_shape``.

    >>> step = {"step": "resize", "from": "480,640,3", "to": "96,96"}
    >>> source_shape((step,), (96, 96, 3))
    (480, 640, 3)
    """
    parsed = [_parsed(tuple(sorted(one.items()))) for one in steps]
    taken = [one.takes for one in parsed if one.takes is not None]
    first = taken[0] if taken else model_shape
    shape = first
    for one in parsed:
        shape = one.gives(shape)
    is_flat = len(model_shape) == 1 and model_shape[0] == math.prod(shape)
    if _without_ones(shape) != _without_ones(model_shape) and not is_flat:
        msg = f"pre-processing: expected steps that end in {list(model_shape)} (the"
        msg += f" model's input), found {list(shape)}"
        raise StepError(msg, next_step="change what the last of them gives")
    return first


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(one for one in shape if one != 1)


@lru_cache(maxsize=64)
def _parsed(items: tuple[tuple[str, str], ...]) -> PreStep:
    step = dict(items)
    parse = _PRE.get(step.get("step", ""))
    if parse is None:
        msg = f"{PLACE}: expected one of {sorted(_PRE)}, found {step!r}"
        raise StepError(msg, next_step="update this program")
    return parse(step, PLACE)
