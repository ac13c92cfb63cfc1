# SPDX-License-Identifier: Apache-2.0
"""Window statistics: counts and moments that merge by addition.

Owns docs/spec/windows.md: what a window counts, how two windows merge, and which
windows are consistent. Identity and time of a window are in ``messages.WindowReport``;
when a window closes is the agent's matter.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.binning import Float32, Float64, Int64
from edge_contract.errors import WindowError
from edge_contract.privacy import check_noised
from edge_contract.profile import Layout, ReferenceProfile, ValueReference

# A million inferences a second for twelve days; eight million such windows still add
# up within 63 bits.
MAX_A_WINDOW: Final = 2**40


@dataclass(frozen=True, eq=False)
class WindowStatistics:
    """Sums over the rows and inferences of one window.

    Attributes:
        ref_id: The reference profile whose bins were used, 8 bytes.
        rows: Rows observed.
        inferences: Inferences that gave finite outputs; they are in the output counts.
        failed: Inferences that raised or gave outputs that are not finite.
        counts: int64 [layout.size], see ``profile.Layout``.
        mean: float64 [F], the mean of each feature's finite values (0 where none).
        m2: float64 [F], the sum of their squared distances from that mean.
        epsilon_millionths: Privacy loss of an inference, in millionths, where noise was
            added: counts may be negative and add up to rows and inferences on average
            only, and moments were derived from them. 0: every number is exact.
    """

    ref_id: bytes
    rows: int
    inferences: int
    failed: int
    counts: Int64
    mean: Float64
    m2: Float64
    epsilon_millionths: int = 0

    @classmethod
    def empty(cls, profile: ReferenceProfile) -> "WindowStatistics":
        """Return the statistics of no rows."""
        layout = profile.layout
        zeros = np.zeros(layout.features)
        counts = np.zeros(layout.size, dtype=np.int64)
        return cls(profile.ref_id, 0, 0, 0, counts, zeros, zeros.copy())

    def valid(self, layout: Layout) -> Int64:
        """Return how many finite values each feature had, int64 [F]."""
        return self.rows - self.counts[layout.missing]

    def variance(self, layout: Layout) -> Float64:
        """Return the population variance of each feature, float64 [F]; 0 if empty."""
        return self.m2 / np.maximum(self.valid(layout), 1)


def merge(
    first: WindowStatistics, second: WindowStatistics, layout: Layout
) -> WindowStatistics:
    """Return the statistics of both windows' rows taken together.

    Counts add exactly, in any order; moments merge by Chan, Golub and LeVeque (1979).

    Raises:
        WindowError: The windows were counted under different reference profiles.
    """
    if first.ref_id != second.ref_id:
        msg = (
            "windows: cannot merge counts under reference profiles "
            f"{first.ref_id.hex()} and {second.ref_id.hex()}"
        )
        raise WindowError(msg)
    a, b = first.valid(layout), second.valid(layout)
    total = np.maximum(a + b, 1)
    delta = second.mean - first.mean
    return WindowStatistics(
        ref_id=first.ref_id,
        rows=first.rows + second.rows,
        inferences=first.inferences + second.inferences,
        failed=first.failed + second.failed,
        counts=first.counts + second.counts,
        mean=(a * first.mean + b * second.mean) / total,
        m2=first.m2 + second.m2 + delta**2 * (a * b / total),
        # Of different inferences: each has lost at most the larger one.
        epsilon_millionths=max(first.epsilon_millionths, second.epsilon_millionths),
    )


def check_statistics(statistics: WindowStatistics, profile: ReferenceProfile) -> None:
    """Refuse statistics that no rows could have given.

    Raises:
        WindowError: Another profile, a wrong shape, a sum that does not add up, or
            moments that are not finite.
    """
    layout, counts = profile.layout, statistics.counts
    if statistics.ref_id != profile.ref_id:
        msg = (
            f"window: expected reference profile {profile.ref_id.hex()}, "
            f"found {statistics.ref_id.hex()}"
        )
        raise WindowError(msg)
    if counts.shape != (layout.size,) or statistics.mean.shape != (layout.features,):
        msg = f"window: expected {layout.size} counts, found {counts.size}"
        raise WindowError(msg)
    totals = (statistics.rows, statistics.inferences, statistics.failed)
    if max(*totals, int(np.abs(counts).max())) > MAX_A_WINDOW:
        msg = f"window: expected counts of up to {MAX_A_WINDOW}"
        raise WindowError(msg)
    if not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.m2).all()):
        msg = "window: expected finite moments"
        raise WindowError(msg)
    if statistics.epsilon_millionths:
        check_noised(counts, layout)
    else:
        _check_exact(statistics, layout)


def _check_exact(statistics: WindowStatistics, layout: Layout) -> None:
    counts = statistics.counts
    if int(counts.min()) < 0 or statistics.m2.min() < 0:
        msg = "window: expected no negative count and no negative m2"
        raise WindowError(msg)
    starts = np.array(layout.bin_offsets[:-1])
    binned = np.add.reduceat(counts[: layout.bin_offsets[-1]], starts)
    if (binned + counts[layout.missing] != statistics.rows).any():
        msg = f"window: bins and missing of each feature must sum to {statistics.rows}"
        raise WindowError(msg)
    for part in (layout.below, layout.above, layout.repeat):
        if (counts[part] > binned).any():
            msg = "window: a counter passes the number of its feature's values"
            raise WindowError(msg)
    for part in layout.outputs:
        if int(counts[part].sum()) != statistics.inferences:
            msg = f"window: output counts must sum to {statistics.inferences}"
            raise WindowError(msg)


class StatisticsBuilder:
    """Sums blocks of rows and outputs into one window's statistics.

    Not thread-safe. Blocks of 64 rows or more are cheap; single rows are not.

    Args:
        profile: The reference profile whose bins count.
        initial: Statistics to go on from, as after a restart.
    """

    def __init__(
        self, profile: ReferenceProfile, initial: WindowStatistics | None = None
    ) -> None:
        self._profile = profile
        self._layout = profile.layout
        self._low = np.array([one.low for one in profile.features], dtype=np.float32)
        self._high = np.array([one.high for one in profile.features], dtype=np.float32)
        self._sum = initial or WindowStatistics.empty(profile)

    @property
    def statistics(self) -> WindowStatistics:
        """The sums so far."""
        return self._sum

    def add_rows(self, rows: Float32, previous: Float32 | None = None) -> None:
        """Add rows of one stream.

        Args:
            rows: float32 [n, F], in the order in which they were measured.
            previous: float32 [F], the row before the first one of ``rows`` in the same
                stream, to count repeats; None at the start of a stream.

        Raises:
            WindowError: The rows have another number of features.
        """
        layout = self._layout
        if rows.ndim != 2 or rows.shape[1] != layout.features:
            msg = (
                f"rows: expected shape [n, {layout.features}], found {list(rows.shape)}"
            )
            raise WindowError(msg)
        if not len(rows):
            return
        counts = np.zeros(layout.size, dtype=np.int64)
        counts[: layout.bin_offsets[-1]] = self._profile.bin_table.count(rows)
        finite = np.isfinite(rows)
        complete = bool(finite.all())
        valid = np.full(layout.features, len(rows)) if complete else finite.sum(axis=0)
        counts[layout.missing] = len(rows) - valid
        with np.errstate(invalid="ignore"):
            below, above = rows < self._low, rows > self._high
            if not complete:
                below, above = below & finite, above & finite
            counts[layout.below] = below.sum(axis=0)
            counts[layout.above] = above.sum(axis=0)
            repeats = rows[1:] == rows[:-1]
            if not complete:  # an infinity equals itself, and is missing
                repeats = repeats & finite[1:]
            counts[layout.repeat] = repeats.sum(axis=0)
            if previous is not None:
                counts[layout.repeat] += (rows[0] == previous) & finite[0]
        mean, m2 = _moments(rows, finite, valid)
        block = WindowStatistics(self._sum.ref_id, len(rows), 0, 0, counts, mean, m2)
        self._sum = merge(self._sum, block, layout)

    def add_outputs(self, outputs: Float32) -> None:
        """Add the outputs of inferences; one that is not finite counts as failed.

        Args:
            outputs: float32 [n, K], one row an inference: class probabilities, or the
                values of a model that is no classifier.

        Raises:
            WindowError: Another number of classes or values.
        """
        width = self._profile.output_width
        if outputs.ndim != 2 or outputs.shape[1] != width:
            msg = f"outputs: expected shape [n, {width}], found {list(outputs.shape)}"
            raise WindowError(msg)
        kept = outputs[np.isfinite(outputs).all(axis=1)]
        counts = self._sum.counts.copy()
        if len(kept):
            self._count_outputs(counts, kept)
        self._replace(counts, len(kept), len(outputs) - len(kept))

    def _count_outputs(self, counts: Int64, kept: Float32) -> None:
        layout, outputs = self._layout, self._profile.outputs
        if isinstance(outputs, ValueReference):
            counts[layout.margin.stop :] += outputs.bin_table.count(
                np.ascontiguousarray(outputs.reduce(kept))
            )
        else:
            winners, confidence, margin = top_two(kept)
            counts[layout.classes] += np.bincount(winners, minlength=layout.labels)
            confidence_bins = outputs.confidence_edges.searchsorted(confidence, "right")
            margin_bins = outputs.margin_edges.searchsorted(margin, "right")
            counts[layout.confidence] += np.bincount(
                confidence_bins, minlength=len(outputs.confidence_counts)
            )
            counts[layout.margin] += np.bincount(
                margin_bins, minlength=len(outputs.margin_counts)
            )

    def add_failed(self, inferences: int) -> None:
        """Add inferences that raised."""
        self._replace(self._sum.counts, 0, inferences)

    def _replace(self, counts: Int64, inferences: int, failed: int) -> None:
        old = self._sum
        self._sum = WindowStatistics(
            old.ref_id,
            old.rows,
            old.inferences + inferences,
            old.failed + failed,
            counts,
            old.mean,
            old.m2,
        )


def top_two(probabilities: Float32) -> tuple[Int64, Float32, Float32]:
    """Return winner, its output, and its lead over the second.

    Args:
        probabilities: float32 [n, K], finite; K = 1 leaves a lead of the output itself.

    Returns:
        int64 [n], float32 [n], float32 [n].

    >>> top_two(np.array([[0.25, 0.75]], np.float32))[2].tolist()
    [0.5]
    """
    winners = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    if probabilities.shape[1] == 1:
        return winners, confidence, confidence
    second = np.partition(probabilities, -2, axis=1)[:, -2]
    return winners, confidence, confidence - second


def _moments(
    rows: Float32, finite: np.ndarray, valid: Int64
) -> tuple[Float64, Float64]:
    values = np.where(finite, rows, 0).astype(np.float64)
    mean = values.sum(axis=0) / np.maximum(valid, 1)
    deviation = np.where(finite, values - mean, 0)
    return mean, (deviation**2).sum(axis=0)
