# SPDX-License-Identifier: Apache-2.0
"""The search's judge that really measures.

Owns which frames are the probe and what a candidate's cost is under an objective. The
rules of the search are ``search``'s, those of the choice ``choose``'s.
"""

from typing import Final

import numpy as np

from converter.candidate import Candidate
from converter.choose import Objective
from converter.errors import ConvertError
from converter.measure import Yardstick, measure_latency, sqnr_of
from converter.runtimes import open_engine
from converter.tensors import Float32, Frames

PROBE_FRAMES: Final = 32
_COST_ROUNDS: Final = 16


class MeasuringJudge:
    """Measures candidates for ``search``.

    Args:
        yardstick: Compares with float on all validation frames.
        probe: float32 [n, ...], a few of these frames.
        max_drop: The largest drop of the metric.
        objective: What a candidate costs.
    """

    def __init__(
        self,
        yardstick: Yardstick,
        probe: Float32,
        *,
        max_drop: float,
        objective: Objective,
    ) -> None:
        self._yardstick = yardstick
        self._probe = probe
        self._max_drop = max_drop
        self._objective = objective
        base = yardstick.base
        self._expected = open_engine(base.runtime, base.content).run(probe)

    def sqnr_db(self, candidate: Candidate) -> float:
        """Return the outputs' SQNR against float on the probe frames, in dB."""
        engine = open_engine(candidate.runtime, candidate.content)
        return sqnr_of(engine.run(self._probe), self._expected)

    def is_accepted(self, candidate: Candidate) -> bool:
        """Return whether the metric's drop is proven within the budget."""
        try:
            found = self._yardstick.measure(candidate)
        except ConvertError:
            return False
        return found.comparison.upper <= self._max_drop

    def cost_ratio(self, candidate: Candidate, base: Candidate) -> float:
        """Return the candidate's size over ``base``'s, or its latency."""
        if self._objective == "size":
            return len(candidate.content) / len(base.content)
        pair = measure_latency([candidate, base], self._probe, rounds=_COST_ROUNDS)
        return pair[candidate.id].median_us / pair[base.id].median_us


def pick_probe(frames: Frames) -> Float32:
    """Return up to 32 frames, evenly spaced."""
    count = min(len(frames), PROBE_FRAMES)
    return frames.take(np.linspace(0, len(frames) - 1, count).astype(np.int64))
