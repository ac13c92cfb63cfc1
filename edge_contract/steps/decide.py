# SPDX-License-Identifier: Apache-2.0
"""Steps from the outputs of a stream to decisions: smoothing, threshold, top.

Owns docs/spec/bundle.md, BND-19. They come after observation: statistics see what the
model said of one frame, a sink gets what was decided. ``smoothing`` remembers a stream;
so a ``Decider`` serves one, and a new one is made where the stream begins anew.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from edge_contract.errors import StepError
from edge_contract.steps.parameters import Parameters, StepSpec

Float32 = NDArray[np.float32]
PLACE: Final = "post-processing"
MAX_RESULTS: Final = 1024
_ORDER: Final = ("smoothing", "threshold", "top")
_METHODS: Final[Mapping[str, Literal["mean", "majority"]]] = {
    "mean": "mean",
    "majority": "majority",
}


@dataclass(frozen=True)
class DecisionRule:
    """What the decision steps say.

    Attributes:
        method: ``mean`` of outputs, ``majority`` of winners, or None for each alone.
        results: Over how many results of a stream.
        threshold: The least score of what is named; None names the winner whatever
            its score.
        count: How many are named at most.
    """

    method: Literal["mean", "majority"] | None = None
    results: int = 1
    threshold: float | None = None
    count: int = 1

    @classmethod
    def parse(cls, steps: Sequence[StepSpec]) -> Self:
        """Read decision steps.

        Raises:
            StepError: Unknown, twice, out of order, or with wrong parameters.
        """
        names = [one.get("step", "") for one in steps]
        if names != [one for one in _ORDER if one in names]:
            msg = f"{PLACE}: expected at most one each of {', '.join(_ORDER)}, in this"
            msg += f" order, found {', '.join(names)}"
            raise StepError(msg, next_step="update this program")
        by_name = dict(zip(names, steps, strict=True))
        method, results, threshold, count = None, 1, None, 1
        if "smoothing" in by_name:
            method, results = _smoothing(by_name["smoothing"])
        if "threshold" in by_name:
            parameters = Parameters(by_name["threshold"], PLACE, {"at"})
            threshold = parameters.number("at")
        if "top" in by_name:
            count = Parameters(by_name["top"], PLACE, {"count"}).whole("count")
        return cls(method, results, threshold, count)


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What became of one output.

    Attributes:
        output: float32 [K], smoothed where that is asked.
        ranked: Names and scores of what is decided on, the highest first.
    """

    output: Float32
    ranked: tuple[tuple[str, float], ...]


class Decider:
    """Decides on the outputs of one stream.

    Args:
        rule: What the steps say.
        labels: Names of the classes; empty where outputs are real values, which are
            named by their numbers, and only under a threshold.
    """

    def __init__(self, rule: DecisionRule, labels: Sequence[str]) -> None:
        self._rule = rule
        self._labels = labels
        self._held: deque[Float32] = deque(maxlen=rule.results)

    def decide(self, output: Float32) -> Decision:
        """Take the stream's next output, float32 [K], finite.

        >>> decider = Decider(DecisionRule(method="mean", results=2), ("off", "on"))
        >>> _ = decider.decide(np.array([0.0, 1.0], np.float32))
        >>> decider.decide(np.array([1.0, 0.0], np.float32)).output.tolist()
        [0.5, 0.5]
        """
        if self._rule.method is not None:
            output = self._smooth(output)
        return Decision(output, self._rank(output))

    def _smooth(self, output: Float32) -> Float32:
        if self._rule.method == "majority":
            vote = np.zeros_like(output)
            vote[output.argmax()] = 1
            output = vote
        self._held.append(output)
        mean = np.stack(self._held).mean(axis=0, dtype=np.float64)
        return np.asarray(mean, dtype=np.float32)

    def _rank(self, output: Float32) -> tuple[tuple[str, float], ...]:
        threshold = self._rule.threshold
        if threshold is None and not self._labels:
            return ()
        if self._rule.count == 1:
            order = [int(output.argmax())]
        else:
            order = np.argsort(-output, kind="stable")[: self._rule.count].tolist()
        return tuple(
            (self._labels[one] if self._labels else str(one), float(output[one]))
            for one in order
            if threshold is None or output[one] >= threshold
        )


def _smoothing(step: StepSpec) -> tuple[Literal["mean", "majority"], int]:
    parameters = Parameters(step, PLACE, {"method", "results"})
    method = _METHODS.get(step["method"])
    results = parameters.whole("results")
    if method is None or results > MAX_RESULTS:
        raise parameters.refused(f"mean or majority of up to {MAX_RESULTS} results")
    return method, results
