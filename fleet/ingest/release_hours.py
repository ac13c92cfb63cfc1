# SPDX-License-Identifier: Apache-2.0
"""How each release fares on each device, hour by hour.

Owns writing the table ``release_hours``: sums of confidence and latency, in the
transaction that records the window. Rollouts compare them between devices on the new
release and devices still on the old one; roll-ups cannot serve for that, because two
releases may share a reference profile.
"""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, insert, select, update

from edge_contract.binning import Int64
from edge_contract.errors import WindowError
from edge_contract.operations import BUCKETS
from edge_contract.profile import OutputReference, ReferenceProfile
from edge_contract.varint import decode_counts, encode_counts
from edge_contract.window import WindowStatistics
from edge_contract.window_report import WindowReport
from fleet.store.tables import release_hours

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class _Sums:
    inferences: int
    confident: int
    confidence_ppm: int
    latency: Int64

    def to_columns(self) -> dict[str, int | bytes]:
        return {
            "inferences": self.inferences,
            "confident": self.confident,
            "confidence_ppm": self.confidence_ppm,
            "latency": encode_counts(self.latency),
        }


def add_to_release_hours(
    connection: Connection,
    device: str,
    report: WindowReport,
    statistics: WindowStatistics,
    profile: ReferenceProfile,
    *,
    hour_us: int,
) -> None:
    """Add one window to its release's hour on ``device``.

    Args:
        connection: The caller's write transaction.
        device: The device.
        report: The window as it came.
        statistics: Its counts.
        profile: Its reference profile.
        hour_us: Start of the window's hour, by a clock that is believed.
    """
    confident, confidence_ppm = _sum_confidence(statistics, profile)
    new = _Sums(statistics.inferences, confident, confidence_ppm, _read_latency(report))
    key = {"device": device, "digest8": report.release, "hour_us": hour_us}
    where = [release_hours.c[name] == value for name, value in key.items()]
    old = connection.execute(select(release_hours).where(*where)).mappings().first()
    if old is None:
        connection.execute(insert(release_hours).values(**key, **new.to_columns()))
        return
    total = _Sums(
        old["inferences"] + new.inferences,
        old["confident"] + new.confident,
        old["confidence_ppm"] + new.confidence_ppm,
        decode_counts(old["latency"], BUCKETS) + new.latency,
    )
    connection.execute(update(release_hours).where(*where).values(**total.to_columns()))


def _sum_confidence(
    statistics: WindowStatistics, profile: ReferenceProfile
) -> tuple[int, int]:
    """Return how many inferences have a confidence, and its sum in millionths."""
    outputs = profile.outputs
    if not isinstance(outputs, OutputReference):
        return 0, 0
    counts = statistics.counts[profile.layout.confidence]
    edges = outputs.confidence_edges.astype(np.float64)
    low = min(1 / len(outputs.labels), float(edges[0]))
    borders = np.concatenate(([low], edges, [max(1.0, float(edges[-1]))]))
    middles = np.rint((borders[:-1] + borders[1:]) / 2 * _MILLION).astype(np.int64)
    # A private window's counts may be negative; its sums are right on the average.
    return int(counts.sum()), int(counts @ middles)


def _read_latency(report: WindowReport) -> Int64:
    try:
        operations = report.operations()
    except WindowError:
        operations = None  # the counts are good all the same
    if operations is None:
        return np.zeros(BUCKETS, dtype=np.int64)
    return operations.latency
