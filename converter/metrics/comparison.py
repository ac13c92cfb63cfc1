# SPDX-License-Identifier: Apache-2.0
"""The seam of metrics: two models' outputs on the same frames, and the drop."""

from dataclasses import dataclass
from typing import Protocol

from converter.tensors import Float32, Int64

Truth = Int64 | Float32 | None


@dataclass(frozen=True)
class Comparison:
    """A candidate against float on the same frames.

    Attributes:
        metric: The metric's name.
        base: Its value for float.
        other: Its value for the candidate.
        drop: How much worse the candidate is; negative where it is better.
        upper: Upper end of the drop's paired 95 % interval.
        samples: Frames compared.
        worse: Frames that only float got right, where the metric counts frames.
        better: Frames that only the candidate got right.
    """

    metric: str
    base: float
    other: float
    drop: float
    upper: float
    samples: int
    worse: int = 0
    better: int = 0


class Metric(Protocol):
    """One meaning of accuracy.

    Attributes:
        name: As asked on the command line.
        needs_truth: Whether it cannot do without labels or targets.
    """

    name: str
    needs_truth: bool

    def compare(
        self, base: Float32, other: Float32, truth: Truth, clusters: Int64 | None
    ) -> Comparison:
        """Compare a candidate with float.

        Args:
            base: float32 [n, K], float's outputs after post-processing.
            other: float32 [n, K], the candidate's.
            truth: int64 [n] classes, float32 [n, K] targets, or None.
            clusters: int64 [n]; frames of one cluster are not independent. None where
                each frame is its own.

        Raises:
            ConvertMetricError: The metric cannot be computed on these outputs.
        """

    def samples_needed(self, found: Comparison, max_drop: float) -> int | None:
        """Return how many frames would prove ``max_drop`` at the rates seen.

        Returns:
            None where the seen drop itself is no smaller than ``max_drop``.
        """
