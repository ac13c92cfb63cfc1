# SPDX-License-Identifier: Apache-2.0
"""Noise for private windows: exact discrete Laplace, from the system's random source.

Owns docs/spec/windows.md, WIN-81 to WIN-83. Drawn with integers only: floating point
noise gives away what it should hide (Mironov, CCS 2012). It does not know when a window
is told; see ``closing``.
"""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_contract.privacy import sensitivity
from edge_contract.profile import Layout
from edge_contract.window import WindowStatistics

LEAST_INFERENCES: Final = 20
_MILLION: Final = 1_000_000
Below = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Noise:
    """What is added to the counts of one release's windows.

    Attributes:
        layout: Of the counts.
        epsilon_millionths: Privacy loss of an inference, in millionths.
        rows_an_inference: Most rows that one inference adds.
        below: Returns a random integer from 0 up to its argument, that one left out.
    """

    layout: Layout
    epsilon_millionths: int
    rows_an_inference: int
    below: Below = secrets.randbelow

    def add(self, exact: WindowStatistics) -> WindowStatistics:
        """Return ``exact`` with noise; a second call draws anew."""
        layout = self.layout
        scale = sensitivity(layout, self.rows_an_inference) * _MILLION
        common = math.gcd(self.epsilon_millionths, scale)
        rate = (self.epsilon_millionths // common, scale // common)
        counts = exact.counts.copy()
        hidden = slice(layout.below.start, layout.repeat.stop)
        counts += [draw_laplace(*rate, self.below) for _ in range(layout.size)]
        counts[hidden] = 0
        nothing = np.zeros(layout.features)
        made = exact.inferences + exact.failed
        return replace(
            exact,
            rows=max(0, exact.rows + draw_laplace(*rate, self.below)),
            inferences=max(0, made + draw_laplace(*rate, self.below)),
            failed=0,
            counts=counts,
            mean=nothing,
            m2=nothing,
            epsilon_millionths=self.epsilon_millionths,
        )


def draw_laplace(numerator: int, denominator: int, below: Below) -> int:
    """Draw k with a probability proportional to exp(-|k| numerator / denominator).

    Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy"
    (2020), algorithm 2.
    """
    while True:
        rest = below(denominator)
        if not _is_exp(rest, denominator, below):
            continue
        whole = 0
        while _is_exp(1, 1, below):
            whole += 1
        size = (rest + denominator * whole) // numerator
        is_negative = below(2)
        if not (is_negative and size == 0):
            return -size if is_negative else size


def _is_exp(numerator: int, denominator: int, below: Below) -> bool:
    """Return True with probability exp(-numerator / denominator), of at most 1."""
    turns = 1
    while below(denominator * turns) < numerator:
        turns += 1
    return turns % 2 == 1
