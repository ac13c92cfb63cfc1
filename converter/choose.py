# SPDX-License-Identifier: Apache-2.0
"""Which candidate is chosen for a device: pure rules over measured figures.

Owns the rules: a drop must be proven within the budget, what a device cannot run or
what is slower than float is out, and costs that differ by less than a host's noise are
decided by quality. Float is the fallback that needs no proof.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Objective = Literal["latency", "size", "ram"]
OBJECTIVES: Final[tuple[Objective, ...]] = get_args(Objective)
TIE_SHARE: Final = 0.08


@dataclass(frozen=True)
class Figures:
    """What was measured of a candidate.

    Attributes:
        drop: The metric's drop against float; 0 for float itself.
        upper: Upper end of the drop's 95 % interval; 0 for float itself.
        sqnr_db: Outputs against float's.
        latency_us: Median of one inference on the host, in microseconds.
        size_bytes: Length of the file.
        samples: Frames that the metric was measured on.
        needed: Frames that would prove the drop, or None where more would not help.
        ram_bytes: Memory that loading and running takes on the host, or None where it
            was not measured.
        objections: Why the device cannot run it; empty where it can.
    """

    drop: float
    upper: float
    sqnr_db: float
    latency_us: float
    size_bytes: int
    samples: int
    needed: int | None = None
    ram_bytes: int | None = None
    objections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The outcome for one device.

    Attributes:
        chosen: The candidate's id, or None where nothing can run.
        reasons: Candidate id to one sentence.
        nearest: The quantized candidate that is nearest to the budget where none is
            within it, else None.
    """

    chosen: str | None
    reasons: Mapping[str, str]
    nearest: str | None = None


def choose(
    figures: Mapping[str, Figures],
    *,
    objective: Objective,
    max_drop: float,
    float_ids: Sequence[str],
) -> Choice:
    """Return the best candidate whose drop is proven to be within ``max_drop``.

    Args:
        figures: Candidate id to figures; float among them.
        objective: What to make small.
        max_drop: The largest drop, as a share (0.01 is one point).
        float_ids: Which candidates are float, one a runtime.
    """
    reasons: dict[str, str] = {}
    runnable = [name for name in float_ids if not figures[name].objections]
    fastest = min(
        (figures[name].latency_us for name in runnable or float_ids), default=math.inf
    )
    eligible: list[str] = []
    for name, one in figures.items():
        reasons[name] = _objection(
            one, fastest, objective, max_drop, is_float=name in float_ids
        )
        if not reasons[name]:
            eligible.append(name)
    if not eligible:
        return Choice(None, reasons, _nearest(figures, float_ids))
    chosen = _best(figures, eligible, objective)
    for name in eligible:
        reasons[name] = _why(figures, name, chosen, objective, eligible)
    quantized = [name for name in eligible if name not in float_ids]
    return Choice(chosen, reasons, None if quantized else _nearest(figures, float_ids))


def _best(
    figures: Mapping[str, Figures], eligible: Sequence[str], objective: Objective
) -> str:
    """Return the best quality among those within a tie of the lowest cost."""
    lowest = min(_cost(figures[name], objective) for name in eligible)
    near = [
        name
        for name in eligible
        if _cost(figures[name], objective) <= lowest * (1 + TIE_SHARE)
    ]
    return max(
        near,
        key=lambda name: (
            round(figures[name].sqnr_db, 1),
            -_cost(figures[name], objective),
            name,
        ),
    )


def _nearest(figures: Mapping[str, Figures], float_ids: Sequence[str]) -> str | None:
    quantized = [
        name
        for name, one in figures.items()
        if name not in float_ids and not one.objections
    ]
    return min(quantized, key=lambda name: (figures[name].upper, name), default=None)


def _objection(
    one: Figures,
    fastest_float: float,
    objective: Objective,
    max_drop: float,
    *,
    is_float: bool,
) -> str:
    if one.objections:
        return f"cannot run there: {'; '.join(one.objections)}"
    if is_float:
        return ""
    if one.upper > max_drop:
        return not_proven(one, max_drop)
    if objective == "latency" and one.latency_us >= fastest_float:
        return f"not faster than float ({fastest_float:.1f} µs)"
    return ""


def not_proven(one: Figures, max_drop: float) -> str:
    """Return why a drop is not proven, and what would prove it."""
    text = f"drop {one.drop:.2%}, at most {one.upper:.2%} (95 %): not proven"
    text += f" within {max_drop:.2%}"
    if one.needed is None:
        return text + "; more samples would not help at this drop"
    more = max(1, one.needed - one.samples)
    return text + f"; needs {more} more samples than {one.samples}"


def _cost(one: Figures, objective: Objective) -> float:
    if objective == "latency":
        return one.latency_us
    if objective == "size":
        return one.size_bytes
    return math.inf if one.ram_bytes is None else one.ram_bytes


def _why(
    figures: Mapping[str, Figures],
    name: str,
    chosen: str,
    objective: Objective,
    eligible: Sequence[str],
) -> str:
    if name == chosen:
        if len(eligible) == 1:
            return "chosen: no other candidate is proven within the budget"
        return f"chosen: best {objective} within the budget"
    ratio = _cost(figures[name], objective) / _cost(figures[chosen], objective)
    if ratio <= 1 + TIE_SHARE:
        return f"within the budget, {objective} alike, less exact"
    return f"within the budget, not the best {objective}"
