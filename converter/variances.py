# SPDX-License-Identifier: Apache-2.0
"""How much the contrasts of a histogram vary with nothing wrong.

Owns the unit (the smallest stretch that is an independent replicate: one turn through
the recordings of a group, since rows inside a recording are strongly correlated) and
the within- and between-group variances that a drift verdict on few devices rests on.
A group is what one device will see: a wearer, a machine, a site. The contrasts are
those of ``edge_contract.binning``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from converter.data.dataset import Rows
from converter.data.rule import FrameRule
from converter.errors import ConvertDataError
from converter.tensors import Float32, Int64
from edge_contract.binning import (
    BinTable,
    Float64,
    location_contrast,
    normal_scores,
    scale_contrast,
)

PRIOR_DF: Final = 4.0
VECTOR_UNIT_ROWS: Final = 64
_Z90 = 1.2816
_LEAST_SHARE = 0.25
_MIN_STREAM_UNITS = 2
_WHITE_NOISE = np.array([[1.0], [2.0]])  # variances of both contrasts at one row


@dataclass(frozen=True, eq=False)
class UnitVariances:
    """Variances of the contrasts, a feature (float64 [F]).

    Attributes:
        unit_rows: Rows of one unit.
        groups: Groups behind the between-variances; 0 when the data named none.
        location_within: Of the location contrast, between units of one group.
        location_between: Of the location contrast, between groups.
        scale_within: Of the scale contrast, between units of one group.
        scale_between: Of the scale contrast, between groups.
    """

    unit_rows: int
    groups: int
    location_within: Float64
    location_between: Float64
    scale_within: Float64
    scale_between: Float64


def unit_variances(rows: Rows, table: BinTable, rule: FrameRule) -> UnitVariances:
    """Return the unit and the variances of calibration rows.

    The within-variance is pooled over groups, mixed with the median over features at a
    weight of 4 degrees of freedom, and taken at its upper 90 % limit: one that is too
    small floods a fleet with alarms.

    Raises:
        ConvertDataError: No group has the rows of one unit.
    """
    count = len(rows.values)
    named = rows.recording is not None
    recording = np.zeros(count, np.int64) if rows.recording is None else rows.recording
    hop = rule.hop
    if rule.observe != "series":
        shortest = int(np.unique(recording, return_counts=True)[1].min(initial=count))
        hop = max(1, min(VECTOR_UNIT_ROWS, count // _MIN_STREAM_UNITS, shortest))
    group = recording if rows.group is None else rows.group
    streams = [
        interleave(rows.values[group == one], recording[group == one], hop)
        for one in np.unique(group)
    ]
    usable = [one for one in streams if one[1]]
    turns = [found for _, found in usable]
    unit = hop * int(np.median(turns)) if turns else hop
    scores = _scores(table.count(rows.values), table)
    units = [
        _unit_contrasts(stream, unit, table, scores)
        for stream, _ in usable
        if len(stream) >= unit
    ]
    if not units:
        msg = f"calibration: expected a group with {unit} rows (one unit)"
        msg += f", found {count} rows in {len(streams)} groups"
        raise ConvertDataError(msg, next_step="collect longer recordings")
    within, between = _limits(units, unit)
    return UnitVariances(
        unit, len(units) if named else 0, within[0], between[0], within[1], between[1]
    )


def interleave(values: Float32, recording: Int64, hop: int) -> tuple[Float32, int]:
    """Return one group's rows in the order in which an agent emits them.

    That is ``hop`` rows of each recording in turn, until the shortest ends.

    Returns:
        float32 [m, F] and the number of recordings that take part.
    """
    order = dict.fromkeys(recording.tolist())
    parts = [values[recording == one] for one in order]
    parts = [one for one in parts if len(one) >= hop]
    turns = min((len(one) // hop for one in parts), default=0)
    blocks = [
        one[turn * hop : (turn + 1) * hop] for turn in range(turns) for one in parts
    ]
    return (np.concatenate(blocks) if blocks else values[:0]), len(parts)


def _scores(counts: Int64, table: BinTable) -> list[Float64]:
    return [normal_scores(one) for one in _split(counts, table)]


def _split(counts: Int64, table: BinTable) -> list[Int64]:
    return np.split(counts, table.offsets[1:-1])


def _unit_contrasts(
    stream: Float32, unit: int, table: BinTable, scores: Sequence[Float64]
) -> Float64:
    """Return float64 [units, 2, F]: location and scale of each whole unit."""
    found = []
    for start in range(0, len(stream) - unit + 1, unit):
        parts = _split(table.count(stream[start : start + unit]), table)
        pairs = list(zip(parts, scores, strict=True))
        found.append(
            [
                [location_contrast(counts, one) for counts, one in pairs],
                [scale_contrast(counts, one) for counts, one in pairs],
            ]
        )
    return np.array(found)


def _limits(units: Sequence[Float64], unit: int) -> tuple[Float64, Float64]:
    """Return the upper limit of the within-variance and the between-variance."""
    freedom = sum(len(one) - 1 for one in units)
    means = np.stack([one.mean(axis=0) for one in units])
    spread = np.zeros_like(means[0])
    if len(units) > 1:
        spread = means.var(axis=0, ddof=1)
    within, total = spread, float(max(len(units) - 1, 1))
    if freedom:
        squares = [((one - one.mean(axis=0)) ** 2).sum(axis=0) for one in units]
        pooled = np.sum(squares, axis=0) / freedom
        centre = np.median(pooled, axis=1, keepdims=True)
        total = freedom + PRIOR_DF
        within = (freedom * pooled + PRIOR_DF * centre) / total
    limit = np.maximum(within / _lower_share(total), _WHITE_NOISE / unit)
    mean_inverse = float(np.mean([1 / len(one) for one in units]))
    between: Float64 = np.maximum(spread - within * mean_inverse, limit)
    return limit, between


def _lower_share(freedom: float) -> float:
    """Return the lower 10 % point of chi-square over its mean (Wilson-Hilferty)."""
    part = 2 / (9 * freedom)
    return float(max(1 - part - _Z90 * np.sqrt(part), _LEAST_SHARE) ** 3)
