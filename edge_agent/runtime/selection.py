# SPDX-License-Identifier: Apache-2.0
"""Which frames are worth a look: near the threshold, new, or any.

Owns the three rules, and what a request for frames may ask. Pure; who collects is
``sampler``, who only marks results is ``marks``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

import numpy as np

from edge_agent.errors import RequestError
from edge_agent.flow import Float32
from edge_agent.runtime.model import Model
from edge_contract.profile import OutputReference, ReferenceProfile

Rule = Literal["near-threshold", "novelty", "random"]
MAX_FRAMES: Final = 256
MAX_SECONDS: Final = 86_400
MAX_REASON: Final = 200
_FRAMES: Final = 16
_SECONDS: Final = 3600
_FAR: Final = 3.0
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class Wish:
    """A request for frames of one slot.

    Attributes:
        select: The rule.
        frames: How many.
        seconds: How long to look for them.
        reason: Why, in the words of who asked.
    """

    select: Rule
    frames: int
    seconds: int
    reason: str

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Self:
        """Read the arguments of a command.

        Raises:
            RequestError: One is missing, or out of its range.
        """
        select: Any = arguments.get("select")
        reason = arguments.get("reason")
        if select not in get_args(Rule):
            known = ", ".join(get_args(Rule))
            raise RequestError(f"select: expected one of {known}, found {select!r}")
        if not (isinstance(reason, str) and 0 < len(reason) <= MAX_REASON):
            msg = f"reason: expected a text of up to {MAX_REASON}, found {reason!r}"
            raise RequestError(msg)
        frames = _bounded(arguments, "frames", _FRAMES, MAX_FRAMES)
        seconds = _bounded(arguments, "seconds", _SECONDS, MAX_SECONDS)
        return cls(select, frames, seconds, reason)


def _bounded(arguments: Mapping[str, Any], name: str, default: int, most: int) -> int:
    found = arguments.get(name, default)
    if type(found) is not int or not 1 <= found <= most:
        raise RequestError(f"{name}: expected 1 to {most}, found {found!r}")
    return found


class Selector:
    """Says which frames of one model are near the threshold, or new, as a rule asks.

    Args:
        rule: The rule; ``random`` looks at nothing, and is left to who draws.
        model: The model that serves.

    Raises:
        RequestError: There is no threshold: the model has no classes.
    """

    def __init__(self, rule: Rule, model: Model) -> None:
        is_classifier = isinstance(model.profile.outputs, OutputReference)
        if rule == "near-threshold" and not is_classifier:
            msg = "select: expected a model with classes for near-threshold"
            raise RequestError(f"{msg}, found one of real values")
        self.rule = rule
        self.digest = model.digest
        self._model = model
        self._novelty = Novelty(model.profile)

    def is_striking(self, data: Float32, output: Float32) -> bool:
        """Return whether a frame is what the rule asks for.

        Args:
            data: float32, the frame as it was given.
            output: float32 [K], what the model made of it.
        """
        model = self._model
        if self.rule == "near-threshold":
            return is_near_threshold(output, model.profile)
        rows = data.reshape(model.rows_shape)
        observed = rows if model.reduce is None else model.reduce(rows)
        return self._novelty.is_far(observed)


def is_near_threshold(output: Float32, profile: ReferenceProfile) -> bool:
    """Return whether the lead of the winner is in the reference's lowest eighth.

    Args:
        output: float32 [K], finite.
        profile: Of the model that gave it.
    """
    outputs = profile.outputs
    if not isinstance(outputs, OutputReference) or len(output) < 2:
        return False
    second, first = np.partition(output, -2)[-2:]
    return bool(first - second < outputs.margin_edges[0])


class Novelty:
    """Tells frames that are far from a reference in any feature.

    Far is: half of the rows outside of the calibration data's range, or of categories
    that it did not have; or a mean three of its standard deviations from its mean.

    Args:
        profile: Of the model; read once, as frames come as often as inferences do.
    """

    def __init__(self, profile: ReferenceProfile) -> None:
        features = profile.features
        self._low = np.array([one.low for one in features])
        self._high = np.array([one.high for one in features])
        self._categories = {
            index: one.categories
            for index, one in enumerate(features)
            if one.categories is not None
        }
        self._mean = np.array([one.mean for one in features])
        # A category's mean tells nothing, and nothing varies around a constant.
        self._reach = np.array(
            [
                _FAR * max(one.sd, 1e-12)
                if one.categories is None and one.sd > 0
                else np.inf
                for one in features
            ]
        )

    def is_far(self, rows: Float32) -> bool:
        """Return whether a frame is: float32 [n, F], what is observed of it."""
        outside = (rows < self._low) | (rows > self._high)
        for index, values in self._categories.items():
            outside[:, index] = ~np.isin(rows[:, index], values)
        if (outside.mean(axis=0) >= _HALF).any():
            return True
        distance = np.abs(rows.mean(axis=0, dtype=np.float64) - self._mean)
        return bool((distance > self._reach).any())
