# SPDX-License-Identifier: Apache-2.0
"""What many streams have been like: sums that grow late, and only while quiet.

Owns the baseline's memory. A window joins only when it is a day old and the stream's
column stayed quiet since, so that drift does not become the new normal; a frozen short
baseline would keep its errors for ever. All streams of a family share one clock.
The arrays are changed in place by the one step that owns them.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.parameters import SLOTS_A_DAY, SLOTS_AN_HOUR

# Sums a stream: values, squares, lag-1 products, products with the season, the season,
# its squares, squares of hourly means, their lag-1 products.
Y, YY, LAG, YP, P, PP, HH, HLAG = range(8)
# Counts a column: windows, pairs of neighbours, hours, pairs of hours.
WINDOWS, PAIRS, HOURS, HOUR_PAIRS = range(4)
CHUNK_SLOTS: Final = SLOTS_A_DAY // 2
_RING = 3  # the chunk that fills, and two that wait: 24 to 36 hours
_LEAST_OF_AN_HOUR = SLOTS_AN_HOUR // 2


@dataclass(eq=False)
class History:
    """Sums of C channels x F features x N columns.

    Attributes:
        sums: float32 [8, C, F, N], what the baseline rests on.
        counts: float32 [4, C, N].
        waiting_sums: float32 [3, 8, C, F, N], the chunk that fills first.
        waiting_counts: float32 [3, 4, C, N].
        peaks: float32 [3, N], most log evidence of the column in each chunk.
        origin: float32 [C, F, N], taken off each value so that squares stay exact;
            NaN before the first.
        before: float32 [C, F, N], the last value.
        hour: float32 [C, F, N], sum of the hour that runs.
        hour_count: float32 [C, N].
        hour_before: float32 [C, F, N], mean of the last whole hour; NaN when none.
        learning: bool [N], has no baseline of its own yet: its windows join at once.
    """

    sums: Real
    counts: Real
    waiting_sums: Real
    waiting_counts: Real
    peaks: Real
    origin: Real
    before: Real
    hour: Real
    hour_count: Real
    hour_before: Real
    learning: Bools

    @classmethod
    def start(cls, channels: int, features: int, columns: int) -> "History":
        """Return the history of streams never seen."""
        shape = (channels, features, columns)

        def zeros(*size: int) -> Real:
            return np.zeros(size, dtype=np.float32)

        return cls(
            sums=zeros(8, *shape),
            counts=zeros(4, channels, columns),
            waiting_sums=zeros(_RING, 8, *shape),
            waiting_counts=zeros(_RING, 4, channels, columns),
            peaks=zeros(_RING, columns),
            origin=np.full(shape, np.nan, dtype=np.float32),
            before=zeros(*shape),
            hour=zeros(*shape),
            hour_count=zeros(channels, columns),
            hour_before=np.full(shape, np.nan, dtype=np.float32),
            learning=np.ones(columns, dtype=bool),
        )

    @property
    def columns(self) -> int:
        """N."""
        return int(self.peaks.shape[-1])

    def grow(self, columns: int) -> None:
        """Add columns never seen, up to ``columns``."""
        more = columns - self.columns
        if more <= 0:
            return
        channels, features = self.sums.shape[1:3]
        fresh = History.start(channels, features, more)
        for one in fields(self):
            parts = getattr(self, one.name), getattr(fresh, one.name)
            setattr(self, one.name, np.concatenate(parts, axis=-1))

    def forget(self, columns: Int64) -> None:
        """Let columns learn from the start."""
        channels, features = self.sums.shape[1:3]
        fresh = History.start(channels, features, 1)
        for one in fields(self):
            getattr(self, one.name)[..., columns] = getattr(fresh, one.name)


@dataclass(frozen=True, eq=False)
class Values:
    """One slot's values of all N columns.

    Attributes:
        y: float32 [C, F, N]; anything where not valid.
        season: float32 [C, F, 1], what the season predicts; NaN when not known.
        valid: bool [C, N].
        follows: bool [C, N], valid, and the slot before was too.
    """

    y: Real
    season: Real
    valid: Bools
    follows: Bools


def remember(history: History, values: Values) -> None:
    """Add one slot's values to the chunk that fills."""
    fresh = np.isnan(history.origin) & values.valid[:, np.newaxis]
    if fresh.any():
        np.copyto(history.origin, values.y, where=fresh)
    valid = values.valid[:, np.newaxis]
    y = np.where(valid, values.y - history.origin, 0).astype(np.float32)
    season = np.nan_to_num(values.season) * valid
    sums, counts = history.waiting_sums[0], history.waiting_counts[0]
    sums[Y] += y
    sums[YY] += y * y
    sums[LAG] += y * history.before * values.follows[:, np.newaxis]
    sums[YP] += y * season
    sums[P] += season
    sums[PP] += season * season
    counts[WINDOWS] += values.valid
    counts[PAIRS] += values.follows
    history.hour += y
    history.hour_count += values.valid
    np.copyto(history.before, y, where=valid)


def close_hour(history: History) -> tuple[Real, Bools]:
    """End the hour that runs.

    Returns:
        The means of the hour, float32 [C, F, N], and whether enough of it was seen,
        bool [C, N]. They are distances from ``origin``.
    """
    whole = history.hour_count >= _LEAST_OF_AN_HOUR
    mean = history.hour / np.maximum(history.hour_count, 1)[:, np.newaxis]
    ready = whole[:, np.newaxis] & ~np.isnan(history.hour_before)
    sums, counts = history.waiting_sums[0], history.waiting_counts[0]
    sums[HH] += np.where(whole[:, np.newaxis], mean * mean, 0)
    sums[HLAG] += np.where(ready, mean * np.nan_to_num(history.hour_before), 0)
    counts[HOURS] += whole
    counts[HOUR_PAIRS] += ready.all(axis=1)
    history.hour_before = np.where(
        whole[:, np.newaxis], mean, np.float32(np.nan)
    ).astype(np.float32)
    history.hour[:] = 0
    history.hour_count[:] = 0
    return mean, whole


def close_chunk(history: History, guard: float, cap: int, barred: Bools) -> None:
    """Let the oldest chunk join the baseline where the column stayed quiet.

    Args:
        history: The memory.
        guard: Log evidence above which a chunk may not join.
        cap: Windows after which the baseline forgets.
        barred: bool [N], columns with an open verdict or fault: nothing joins.
    """
    at_once = history.learning & ~barred
    quiet = (history.peaks.max(axis=0) < guard) & ~barred & ~history.learning
    for place, who in ((_RING - 1, quiet), (0, at_once)):
        history.sums += history.waiting_sums[place] * who
        history.counts += history.waiting_counts[place] * who
    for array in (history.waiting_sums, history.waiting_counts, history.peaks):
        array[1:] = array[:-1].copy()
        array[0] = 0
    # A learner's chunk has joined: it must not join again.
    history.waiting_sums[1][..., at_once] = 0
    history.waiting_counts[1][..., at_once] = 0
    excess = np.maximum(history.counts[WINDOWS] / cap, 1)
    history.sums /= excess[:, np.newaxis]
    history.counts /= excess
