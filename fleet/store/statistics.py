# SPDX-License-Identifier: Apache-2.0
"""Window statistics in and out of the columns of ``windows`` and ``rollups``.

Owns their encoding: counts as varints, moments as float64, so that nothing is lost
between the wire and the database. It merges nothing; see ``edge_contract.window``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import RowMapping

from edge_contract.profile import Layout
from edge_contract.varint import (
    decode_counts,
    decode_signed_counts,
    encode_counts,
    encode_signed_counts,
)
from edge_contract.window import WindowStatistics


def statistics_to_columns(statistics: WindowStatistics) -> dict[str, Any]:
    """Return the values of the statistics' columns."""
    noised = statistics.epsilon_millionths
    encode = encode_signed_counts if noised else encode_counts
    return {
        "ref_id": statistics.ref_id,
        "rows": statistics.rows,
        "inferences": statistics.inferences,
        "failed": statistics.failed,
        "counts": encode(statistics.counts),
        "mean": statistics.mean.astype("<f8").tobytes(),
        "m2": statistics.m2.astype("<f8").tobytes(),
        "epsilon_millionths": noised,
    }


def statistics_from_columns(
    row: Mapping[str, Any] | RowMapping, layout: Layout
) -> WindowStatistics:
    """Read the statistics of a row of ``windows`` or ``rollups``.

    Args:
        row: The row, as ``RowMapping`` or dict.
        layout: The layout of the reference profile with the row's ``ref_id``.

    Raises:
        WindowError: The counts do not fit the layout.
    """
    noised = row["epsilon_millionths"]
    decode = decode_signed_counts if noised else decode_counts
    return WindowStatistics(
        ref_id=row["ref_id"],
        rows=row["rows"],
        inferences=row["inferences"],
        failed=row["failed"],
        counts=decode(row["counts"], layout.size),
        mean=np.frombuffer(row["mean"], dtype="<f8").astype(np.float64),
        m2=np.frombuffer(row["m2"], dtype="<f8").astype(np.float64),
        epsilon_millionths=noised,
    )
