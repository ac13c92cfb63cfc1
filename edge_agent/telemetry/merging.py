# SPDX-License-Identifier: Apache-2.0
"""Merging rules: how a full outbox gets smaller without losing a count.

Owns which windows may be merged and what their sum says. Two at a time, adjacent, of
one release and one reference profile, never handed to a transport. The sum has a fresh
seq and covers those of both, so that a server can tell how many windows it stands for:
``len(covers) // 2 + 1``. Pure; the outbox stores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Final

from edge_contract.evidence import encode_feedback, merge_feedback, merge_shadows
from edge_contract.operations import encode_operations, merge_operations
from edge_contract.profile import Layout
from edge_contract.window import merge
from edge_contract.window_report import MAX_COVERS, WindowReport, encode_blocks

_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class WindowRow:
    """What the plan must know of a held window."""

    seq: int
    group: bytes  # see ``merge_group``
    covers: int


def merge_group(report: WindowReport) -> bytes:
    """Return what must be equal in two windows to merge them; ref_id comes first.

    An exact window is not merged with a private one: its moments would be lost.
    """
    shadow = report.shadow.release if report.shadow else b""
    epsilon = report.epsilon_millionths
    noise = epsilon.to_bytes(_ID_BYTES) if epsilon else b""
    return report.ref_id + report.release + shadow + noise


def plan_merges(rows: Sequence[WindowRow], handed: int) -> list[tuple[int, int]]:
    """Pair neighbours that may be merged: finest first, then oldest.

    Args:
        rows: All held windows in the order of time.
        handed: The highest seq ever handed to a transport.

    >>> rows = [WindowRow(n, b"a", 0) for n in range(1, 6)]
    >>> plan_merges(rows, handed=1)
    [(2, 3), (4, 5)]
    """
    free = [row for row in rows if row.seq > handed]
    costs = [
        (first.covers + second.covers, place)
        for place, (first, second) in enumerate(pairwise(free))
        if first.group == second.group
    ]
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for covers, place in sorted(costs):
        if covers + 2 <= MAX_COVERS and taken.isdisjoint((place, place + 1)):
            taken |= {place, place + 1}
            pairs.append((free[place].seq, free[place + 1].seq))
    return pairs


def merge_reports(
    first: WindowReport, second: WindowReport, seq: int, layout: Layout
) -> WindowReport:
    """Return the sum of two windows under a fresh ``seq``.

    Raises:
        WindowError: They do not fit the layout, or not each other.
    """
    sums = merge(first.sums(layout), second.sums(layout), layout)
    counts, moments = encode_blocks(sums)
    start_us = min(first.start_us, second.start_us)
    end_us = max(
        first.start_us + first.duration_us, second.start_us + second.duration_us
    )
    covers = {first.seq, second.seq, *first.covers, *second.covers}
    return WindowReport(
        boot_id=first.boot_id,
        seq=seq,
        ref_id=first.ref_id,
        release=first.release,
        start_us=start_us,
        duration_us=end_us - start_us,
        monotonic_us=max(first.monotonic_us, second.monotonic_us),
        clock_synced=first.clock_synced and second.clock_synced,
        rows=sums.rows,
        inferences=sums.inferences,
        failed=sums.failed,
        lost=first.lost + second.lost,
        covers=tuple(sorted(covers)),
        count_block=counts,
        moment_block=moments,
        operation_block=_merge_operations(first, second),
        epsilon_millionths=sums.epsilon_millionths,
        feedback_block=_merge_feedback(first, second),
        shadow=merge_shadows(first.shadow, second.shadow),
    )


def _merge_operations(first: WindowReport, second: WindowReport) -> bytes:
    found = [
        one for one in (first.operations(), second.operations()) if one is not None
    ]
    return encode_operations(reduce(merge_operations, found)) if found else b""


def _merge_feedback(first: WindowReport, second: WindowReport) -> bytes:
    found = [one for one in (first.feedback(), second.feedback()) if one is not None]
    return encode_feedback(reduce(merge_feedback, found)) if found else b""
