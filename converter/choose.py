# SPDX-License-Identifier: Apache-2.0
"""Which candidate is chosen: pure rules over measured figures.

Owns the paired interval of an accuracy drop (Tango, Statistics in Medicine 17, 1998:
the score interval for the difference of two paired proportions), the number of samples
that would prove a drop small enough, and the choice itself. Float is never more than
the fallback that needs no proof. Frames are taken as independent; frames that overlap
make the interval too narrow.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Objective = Literal["latency", "size", "ram"]
OBJECTIVES: Final[tuple[Objective, ...]] = get_args(Objective)
Z95: Final = 1.959963984540054
_BISECTIONS = 60
_MAX_SAMPLES = 10_000_000


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same samples.

    Attributes:
        worse: Samples that only the first got right.
        better: Samples that only the second got right.
        samples: All samples.
    """

    worse: int
    better: int
    samples: int

    @property
    def drop(self) -> float:
        """The loss of accuracy from the first to the second."""
        return (self.worse - self.better) / self.samples


def drop_upper_bound(pair: Paired) -> float:
    """Return the upper end of the 95 % interval of the drop.

    >>> round(drop_upper_bound(Paired(0, 0, 100)), 4)
    0.037
    """
    low, high = pair.drop, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _score(pair, middle) > -Z95:
            low = middle
        else:
            high = middle
    return high


def _score(pair: Paired, delta: float) -> float:
    """Return Tango's score statistic for a true drop of ``delta``."""
    n, b, c = pair.samples, pair.worse, pair.better
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    share = (root - linear) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    if variance <= 0:
        return 0.0 if b - c == n * delta else math.copysign(math.inf, b - c - n * delta)
    return (b - c - n * delta) / math.sqrt(variance)


def samples_needed(pair: Paired, max_drop: float) -> int | None:
    """Return how many samples would prove the drop, if its rates stay as seen.

    Returns:
        The number, or None when the seen drop is no smaller than ``max_drop``.

    >>> samples_needed(Paired(0, 0, 100), 0.01)
    381
    """
    if pair.drop >= max_drop:
        return None

    def proven(samples: int) -> bool:
        factor = samples / pair.samples
        scaled = Paired(
            math.ceil(pair.worse * factor), math.floor(pair.better * factor), samples
        )
        return drop_upper_bound(scaled) <= max_drop

    low, high = 1, max(2, pair.samples)
    while not proven(high):
        low, high = high, high * 2
        if high > _MAX_SAMPLES:
            return None
    return _first(proven, low, high)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    while low + 1 < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True)
class Figures:
    """What was measured of a candidate.

    Attributes:
        paired: Against float on the validation frames; None for float itself.
        latency_us: Median of one inference on the host, in microseconds.
        size_bytes: Length of the file.
        ram_bytes: Memory that loading and running takes on the host, or None where it
            was not measured.
    """

    paired: Paired | None
    latency_us: float
    size_bytes: int
    ram_bytes: int | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen candidate, and one sentence about each."""

    chosen: str
    reasons: Mapping[str, str]


def choose(
    figures: Mapping[str, Figures],
    *,
    objective: Objective,
    max_drop: float,
    float_id: str,
) -> Choice:
    """Return the best candidate whose drop is proven to be within ``max_drop``.

    Args:
        figures: Candidate id to figures; float among them.
        objective: What to make small.
        max_drop: The largest drop, as a share (0.01 is one point).
        float_id: Which candidate is float.
    """
    reasons: dict[str, str] = {}
    eligible = [float_id]
    for name, one in figures.items():
        if name == float_id or one.paired is None:
            continue
        reasons[name] = _objection(one, figures[float_id], objective, max_drop)
        if not reasons[name]:
            eligible.append(name)
    chosen = min(eligible, key=lambda name: (_cost(figures[name], objective), name))
    for name in eligible:
        reasons[name] = _why(name, chosen, objective, eligible)
    return Choice(chosen, reasons)


def _objection(
    one: Figures, base: Figures, objective: Objective, max_drop: float
) -> str:
    pair = one.paired
    if pair is None:
        return ""
    bound = drop_upper_bound(pair)
    if bound > max_drop:
        return _not_proven(pair, bound, max_drop)
    if objective == "latency" and one.latency_us >= base.latency_us:
        return f"not faster than float ({one.latency_us:.1f} μs)"
    return ""


def _not_proven(pair: Paired, bound: float, max_drop: float) -> str:
    text = f"drop {pair.drop:.2%}, at most {bound:.2%} (95 %): not proven"
    text += f" within {max_drop:.2%}"
    needed = samples_needed(pair, max_drop)
    if needed is None:
        return text + "; more samples would not help at this drop"
    return text + f"; needs {needed - pair.samples} more samples than {pair.samples}"


def _cost(one: Figures, objective: Objective) -> float:
    if objective == "latency":
        return one.latency_us
    if objective == "size":
        return one.size_bytes
    return math.inf if one.ram_bytes is None else one.ram_bytes


def _why(name: str, chosen: str, objective: str, eligible: Sequence[str]) -> str:
    if name != chosen:
        return f"within the budget, not the best {objective}"
    if len(eligible) == 1:
        return "chosen: no other candidate is proven within the budget"
    return f"chosen: best {objective} within the budget"
