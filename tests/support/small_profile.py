# SPDX-License-Identifier: Apache-2.0
"""A reference profile of two features and three labels, and windows under it."""

from collections.abc import Callable

import numpy as np

from edge_contract.binning import equal_mass_edges
from edge_contract.messages import UpMessage
from edge_contract.profile import FeatureReference, OutputReference, ReferenceProfile
from edge_contract.window import StatisticsBuilder, WindowStatistics
from edge_contract.window_report import WindowReport, encode_blocks

RELEASE = bytes(range(8))
SECOND_US = 1_000_000


def small_profile(features: int = 2) -> ReferenceProfile:
    values = np.linspace(-2, 2, 160, dtype=np.float32)
    edges = equal_mass_edges(values)
    counts = np.full(16, 10, dtype=np.int64)
    confidence = np.linspace(0.05, 0.95, 15, dtype=np.float32)
    margin = np.linspace(0.1, 0.9, 7, dtype=np.float32)
    return ReferenceProfile(
        kind="vector",
        features=tuple(
            FeatureReference(
                f"f{n}", edges, counts, 0, 0.0, 1.0, -2.2, 2.2, 0.1, 0.1, 0.1, 0.1
            )
            for n in range(features)
        ),
        outputs=OutputReference(
            labels=("a", "b", "c"),
            class_counts=np.array([60, 50, 50]),
            confidence_edges=confidence,
            confidence_counts=counts,
            confidence_correct=np.zeros(16, dtype=np.int64),
            margin_edges=margin,
            margin_counts=np.full(8, 20, dtype=np.int64),
        ),
        unit_rows=64,
        groups=0,
        triads=(),
    )


def some_statistics(
    profile: ReferenceProfile, seed: int, rows: int = 8
) -> WindowStatistics:
    random = np.random.default_rng(seed)
    builder = StatisticsBuilder(profile)
    shape = (rows, len(profile.features))
    builder.add_rows(random.normal(size=shape).astype(np.float32))
    builder.add_outputs(random.dirichlet([1, 1, 1], rows).astype(np.float32))
    return builder.statistics


def window_builder(
    profile: ReferenceProfile,
    number: int,
    *,
    release: bytes = RELEASE,
    rows: int = 8,
    operation_block: bytes = b"",
) -> Callable[[bytes, int], UpMessage]:
    """The ``number``-th window of a stream, its content fixed by the number."""
    statistics = some_statistics(profile, number, rows)
    counts, moments = encode_blocks(statistics)

    def build(boot_id: bytes, seq: int) -> UpMessage:
        return WindowReport(
            boot_id=boot_id,
            seq=seq,
            ref_id=profile.ref_id,
            release=release,
            start_us=number * SECOND_US,
            duration_us=SECOND_US,
            monotonic_us=number * SECOND_US,
            clock_synced=True,
            rows=statistics.rows,
            inferences=statistics.inferences,
            failed=statistics.failed,
            lost=0,
            covers=(),
            count_block=counts,
            moment_block=moments,
            operation_block=operation_block,
        )

    return build
