# SPDX-License-Identifier: Apache-2.0
"""The reference profile: what calibration data looked like to the float model.

Owns which data fills each part. Layout and encoding are ``edge_contract.profile``;
between-recording variances are ``variances``. Output edges lie in the middle of a grid
of 2**-14, so that the last bits of an output cannot move it over an edge.
"""

from dataclasses import replace

import numpy as np

from converter.data.dataset import Dataset, Float32, FrameRule, Int64, Rows
from converter.outputs import triads
from converter.variances import UnitVariances, unit_variances
from edge_contract.binning import BinTable, equal_mass_edges
from edge_contract.profile import (
    CONFIDENCE_BINS,
    MARGIN_BINS,
    FeatureReference,
    OutputReference,
    ReferenceProfile,
)
from edge_contract.window import StatisticsBuilder, top_two

_WIDENED = 0.1
_GRID_BITS = 14


def build_reference(
    data: Dataset,
    rule: FrameRule,
    features: tuple[str, ...],
    outputs: OutputReference,
) -> ReferenceProfile:
    """Return the reference profile of calibration rows and reference outputs."""
    rows = data.rows
    edges = [equal_mass_edges(column) for column in rows.values.T]
    table = BinTable(edges)
    variances = unit_variances(rows, table, rule)
    return ReferenceProfile(
        kind=rule.observe,
        features=tuple(
            _feature(name, rows, edges, index, variances)
            for index, name in enumerate(features)
        ),
        outputs=outputs,
        unit_rows=variances.unit_rows,
        groups=variances.groups,
        triads=triads(features),
    )


def _feature(
    name: str,
    rows: Rows,
    edges: list[Float32],
    index: int,
    variances: UnitVariances,
) -> FeatureReference:
    column = rows.values[:, index]
    exact = column.astype(np.float64)
    low, high = float(exact.min()), float(exact.max())
    slack = _WIDENED * (high - low)
    return FeatureReference(
        name=name,
        edges=edges[index],
        counts=BinTable([edges[index]]).count(column[:, np.newaxis]),
        missing=0,
        mean=float(exact.mean()),
        sd=float(exact.std()),
        low=low - slack,
        high=high + slack,
        location_within=float(variances.location_within[index]),
        location_between=float(variances.location_between[index]),
        scale_within=float(variances.scale_within[index]),
        scale_between=float(variances.scale_between[index]),
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
    correct = draft.confidence_correct
    if truth is not None:
        correct = _counted(draft, probabilities[winners == truth])[0]
    confidences, margins = _counted(draft, probabilities)
    return replace(
        draft,
        confidence_counts=confidences,
        confidence_correct=correct,
        margin_counts=margins,
    )


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
