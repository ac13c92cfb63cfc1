# SPDX-License-Identifier: Apache-2.0
"""The reference profile: what calibration data looked like to the float model.

Owns which data fills each part. Layout and encoding are ``edge_contract.profile``;
between-recording variances are ``variances``. What is computed (outputs, qualities of
images) differs in its last bits between machines: its edges lie in the middle of a
grid's cells, and its moments have an 11-bit mantissa.
"""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from converter.calibrate import snap_outward
from converter.data.dataset import Dataset, Rows
from converter.data.rule import FrameRule
from converter.errors import ConvertUsageError
from converter.outputs import triads
from converter.tensors import Float32, Int64
from converter.variances import UnitVariances, unit_variances
from edge_contract.binning import BINS, BinTable, equal_mass_edges
from edge_contract.profile import (
    CONFIDENCE_BINS,
    MARGIN_BINS,
    MAX_CONFUSED,
    MAX_VALUES,
    FeatureReference,
    OutputReference,
    ReferenceProfile,
    ValueReference,
)
from edge_contract.quality import feature_names, project
from edge_contract.window import StatisticsBuilder, top_two

_WIDENED = 0.1
_GRID_BITS = 14
_EDGE_ROWS: Final = 65_536


def build_reference(
    data: Dataset,
    rule: FrameRule,
    features: tuple[str, ...],
    outputs: OutputReference | ValueReference,
    categorical: Collection[str] = (),
) -> ReferenceProfile:
    """Return the reference profile of calibration rows and reference outputs.

    Rows are streamed: edges come from up to 65,536 of them, evenly spaced, counts and
    moments from all, variances between units and repeats from the first 64 MiB.

    Args:
        data: Calibration data.
        rule: How frames are cut, and what is observed of them.
        features: Names of the observed features.
        outputs: The outputs' part.
        categorical: The features whose values are names, not quantities.

    Raises:
        ConvertUsageError: A name is no feature, or what is observed is computed.
    """
    is_exact = rule.observe in {"vector", "series"}
    _check_categorical(categorical, features, is_exact=is_exact)
    named = tuple(index for index, one in enumerate(features) if one in categorical)
    columns = _summarise(data.row_blocks, is_exact=is_exact, categorical=named)
    held = data.rows()
    table = _table(columns)
    if is_exact:
        columns = with_repeats(columns, held)
    variances = unit_variances(held, table, rule)
    return ReferenceProfile(
        kind=rule.observe,
        features=tuple(
            _feature(name, columns[index], index, variances)
            for index, name in enumerate(features)
        ),
        outputs=outputs,
        unit_rows=variances.unit_rows,
        groups=variances.groups,
        triads=triads(features),
    )


@dataclass(frozen=True, eq=False)
class _Column:
    """One column of values, summarised."""

    edges: Float32
    counts: Int64
    mean: float
    sd: float
    low: float
    high: float
    categories: Float32 | None = field(default=None, kw_only=True)
    repeat_ppm: int | None = field(default=None, kw_only=True)
    longest_run: int = field(default=0, kw_only=True)


def _check_categorical(
    categorical: Collection[str], features: tuple[str, ...], *, is_exact: bool
) -> None:
    unknown = sorted(set(categorical) - set(features))
    if unknown or (categorical and not is_exact):
        known = (
            ", ".join(features) if is_exact else "none: what is observed is computed"
        )
        msg = f"--categorical: expected features ({known}), found {sorted(categorical)}"
        raise ConvertUsageError(msg, next_step="name features of vectors or series")


def _table(columns: list[_Column]) -> BinTable:
    return BinTable([one.edges for one in columns], [one.categories for one in columns])


def _summarise(
    blocks: Callable[[], Iterable[Float32]],
    *,
    is_exact: bool,
    categorical: tuple[int, ...] = (),
) -> list[_Column]:
    """Return what passes over blocks (float32 [n, F]) leave of each column.

    Args:
        blocks: Gives the blocks, as often as asked.
        is_exact: Whether values are the same on every machine to the last bit.
        categorical: The columns whose values are names.
    """
    sampled = _sample(blocks)
    find = equal_mass_edges if is_exact else _gridded_edges
    nothing = np.zeros(0, dtype=np.float32)
    edges, categories = [], []
    for index, column in enumerate(sampled.T):
        is_named = index in categorical
        edges.append(nothing if is_named else find(column))
        categories.append(most_frequent(column) if is_named else None)
    table = BinTable(edges, categories)
    counts = np.zeros(table.size, dtype=np.int64)
    total, mean, squares = 0, np.zeros(len(edges)), np.zeros(len(edges))
    low, high = np.full(len(edges), np.inf), np.full(len(edges), -np.inf)
    for block in blocks():
        counts += table.count(block)
        exact = block.astype(np.float64)
        own = exact.mean(axis=0)
        delta, together = own - mean, total + len(block)
        squares += ((exact - own) ** 2).sum(axis=0)
        squares += delta**2 * (total * len(block) / together)
        mean += delta * (len(block) / together)
        total = together
        low = np.minimum(low, exact.min(axis=0))
        high = np.maximum(high, exact.max(axis=0))
    parts = np.split(counts, table.offsets[1:-1])
    deviations = np.sqrt(squares / total)
    found = []
    for index, own in enumerate(parts):
        each = (mean[index], deviations[index], low[index], high[index])
        numbers = [float(one) for one in each]
        if not is_exact:
            ups = (True, True, False, True)
            numbers = [
                snap_outward(one, up=up) for one, up in zip(numbers, ups, strict=True)
            ]
        column = _Column(edges[index], own, *numbers)
        found.append(replace(column, categories=categories[index]))
    return found


def most_frequent(values: Float32, most: int = BINS - 1) -> Float32:
    """Return the ``most`` frequent of ``values`` (float32 [n]), increasing.

    >>> most_frequent(np.array([7, 3, 3, 5, 7, 3], np.float32), 2).tolist()
    [3.0, 7.0]
    """
    found, counts = np.unique(values, return_counts=True)
    ranked = np.lexsort((found, -counts))[:most]
    kept: Float32 = np.sort(found[ranked]).astype(np.float32)
    return kept


def with_repeats(columns: list[_Column], rows: Rows) -> list[_Column]:
    """Return ``columns`` telling how often a value repeats the one before it."""
    values, recording = rows.values, rows.recording
    repeats = values[1:] == values[:-1]
    if recording is not None:
        repeats &= (recording[1:] == recording[:-1])[:, np.newaxis]
    total = max(len(repeats), 1)
    return [
        replace(
            one,
            repeat_ppm=int(repeats[:, index].sum()) * 1_000_000 // total,
            longest_run=_longest_run(repeats[:, index]),
        )
        for index, one in enumerate(columns)
    ]


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Return how many True follow each other at most."""
    breaks = np.flatnonzero(np.concatenate(([True], ~flags, [True])))
    return int(np.diff(breaks).max(initial=1)) - 1


def _gridded_edges(values: Float32) -> Float32:
    """Return equal-mass edges, each in the middle of a cell of a grid.

    The grid has 2**14 cells up to the largest value.
    """
    largest = float(np.abs(values).max())
    if largest == 0:
        return equal_mass_edges(values)
    exponent = _GRID_BITS - math.ceil(math.log2(largest))
    cells = np.floor(np.ldexp(values.astype(np.float64), exponent))
    whole = equal_mass_edges(cells.astype(np.float32)).astype(np.float64)
    edges: Float32 = np.ldexp(whole - 0.5, -exponent).astype(np.float32)
    return edges


def _sample(blocks: Callable[[], Iterable[Float32]]) -> Float32:
    """Return up to 65,536 rows, evenly spaced."""
    count = sum(len(block) for block in blocks())
    step = max(1, -(-count // _EDGE_ROWS))
    kept, start = [], 0
    for block in blocks():
        kept.append(block[(-start) % step :: step])
        start += len(block)
    return np.concatenate(kept)


def build_values(raw: Float32, names: tuple[str, ...] = ()) -> ValueReference:
    """Return the reference of real-valued outputs.

    Args:
        raw: float32 [n, ...], of the float model.
        names: Names of the values; numbered ones where empty.
    """
    flat = raw.reshape(len(raw), -1)
    width = flat.shape[1]
    counted = flat if width <= MAX_VALUES else project(flat)
    kind = "vector" if width <= MAX_VALUES else "embedding"
    columns = _summarise(lambda: (counted,), is_exact=False)
    found = names or feature_names(kind, width, tuple(f"v{n}" for n in range(width)))
    zeros = np.zeros(len(columns))
    none = UnitVariances(1, 0, zeros, zeros, zeros, zeros)
    values = tuple(
        _feature(name, column, index, none)
        for index, (name, column) in enumerate(zip(found, columns, strict=True))
    )
    return ValueReference(values, width)


def _feature(
    name: str, column: _Column, index: int, variances: UnitVariances
) -> FeatureReference:
    slack = _WIDENED * (column.high - column.low)
    return FeatureReference(
        name=name,
        edges=column.edges,
        counts=column.counts,
        missing=0,
        mean=column.mean,
        sd=column.sd,
        low=column.low - slack,
        high=column.high + slack,
        location_within=float(variances.location_within[index]),
        location_between=float(variances.location_between[index]),
        scale_within=float(variances.scale_within[index]),
        scale_between=float(variances.scale_between[index]),
        categories=column.categories,
        repeat_ppm=column.repeat_ppm,
        longest_run=column.longest_run,
    )


def build_outputs(
    labels: tuple[str, ...], probabilities: Float32, truth: Int64 | None
) -> OutputReference:
    """Return the reference of outputs.

    Args:
        labels: Names of the K classes.
        probabilities: float32 [n, K], of the float model.
        truth: int64 [n], or None where there are no labels.
    """
    winners, confidence, margin = top_two(probabilities)
    draft = OutputReference(
        labels=labels,
        class_counts=np.bincount(winners, minlength=len(labels)),
        confidence_edges=_edges(confidence, CONFIDENCE_BINS),
        confidence_counts=np.zeros(CONFIDENCE_BINS, dtype=np.int64),
        confidence_correct=np.zeros(CONFIDENCE_BINS, dtype=np.int64),
        margin_edges=_edges(margin, MARGIN_BINS),
        margin_counts=np.zeros(MARGIN_BINS, dtype=np.int64),
    )
    correct, confusion = draft.confidence_correct, None
    if truth is not None:
        correct = _counted(draft, probabilities[winners == truth])[0]
        confusion = confuse(winners, truth, len(labels))
    confidences, margins = _counted(draft, probabilities)
    return replace(
        draft,
        confidence_counts=confidences,
        confidence_correct=correct,
        margin_counts=margins,
        confusion=confusion,
    )


def confuse(winners: Int64, truth: Int64, labels: int) -> Int64 | None:
    """Return the confusion matrix; None for more classes than a profile holds.

    >>> confuse(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    if labels > MAX_CONFUSED:
        return None
    known = (truth >= 0) & (truth < labels)
    places = truth[known] * labels + winners[known]
    return np.bincount(places, minlength=labels**2).reshape(labels, labels)


def _counted(draft: OutputReference, probabilities: Float32) -> tuple[Int64, Int64]:
    """Count into the bins of ``draft`` exactly as a device will."""
    one_bin = np.zeros(1, dtype=np.int64) + 1
    feature = FeatureReference(
        "-", np.zeros(0, dtype=np.float32), one_bin, 0, *([0.0] * 8)
    )
    profile = ReferenceProfile("vector", (feature,), draft, 1, 0, ())
    builder = StatisticsBuilder(profile)
    builder.add_outputs(probabilities)
    counts, layout = builder.statistics.counts, profile.layout
    return counts[layout.confidence], counts[layout.margin]


def _edges(values: Float32, bins: int) -> Float32:
    """Return ``bins`` - 1 edges of about equal mass, each in the middle of a cell."""
    ordered = np.sort(values.astype(np.float64))
    ranks = (np.arange(1, bins) * len(ordered)) // bins
    cells = np.floor(np.ldexp(ordered[ranks], _GRID_BITS))
    edges: Float32 = np.ldexp(cells + 0.5, -_GRID_BITS).astype(np.float32)
    return edges
