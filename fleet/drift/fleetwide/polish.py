# SPDX-License-Identifier: Apache-2.0
"""World, cohorts and devices told apart by median polish.

Owns the decomposition (Tukey, Exploratory Data Analysis, ch. 11) of one slot's values
over any tags of devices: the median over all is the world, the median over a group
after that is the cohort, the rest is the device's own. Medians, because a broken
device must not move them. In natural units: standardising first would make a shift of
equal size unequal, and it would not polish away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Bools, Real

_PASSES = 2


@dataclass(frozen=True, eq=False)
class TagGroups:
    """The groups of one tag, over the columns of a slot.

    Attributes:
        groups: Place of each group in the fleet's list of groups.
        columns: int64 arrays, the columns of each.
    """

    groups: tuple[int, ...]
    columns: tuple[Int64, ...]


@dataclass(frozen=True, eq=False)
class Parts:
    """One slot, decomposed.

    Attributes:
        world: float32 [R].
        cohort: float32 [R, G]; 0 where a group has too few columns.
        present: bool [G], whether a group had enough.
        order: For each row the tags, the one that explains most first: int64 [R, T].
    """

    world: Real
    cohort: Real
    present: Bools
    order: Int64


def polish(
    values: Real, tags: Sequence[TagGroups], groups: int, order: Int64 | None
) -> Parts:
    """Decompose values.

    Args:
        values: float32 [R, n], n >= 1; rows are features and channels.
        tags: The groups, each of enough columns.
        groups: Length of the fleet's list of groups.
        order: What an earlier slot gave, None to find it afresh.

    >>> tags = [TagGroups((0, 1), (np.arange(4), np.arange(4, 12)))]
    >>> x = np.array([[5.0] * 4 + [1.0] * 8], np.float32)
    >>> parts = polish(x, tags, 2, None)
    >>> parts.world.tolist(), parts.cohort.tolist()
    ([1.0], [[4.0, 0.0]])
    """
    world = row_median(values)
    rest = values - world[:, np.newaxis]
    cohort = np.zeros((len(values), groups), dtype=np.float32)
    present = np.zeros(groups, dtype=bool)
    for one in tags:
        present[list(one.groups)] = True
    if order is None or order.shape[1] != len(tags):
        order = _best_first(rest, tags)
    for turn in range(_PASSES if tags else 0):
        if turn:
            again = row_median(rest)
            world += again
            rest -= again[:, np.newaxis]
        for place in range(len(tags)):
            for number, tag in enumerate(tags):
                rows = np.flatnonzero(order[:, place] == number)
                if rows.size:
                    _take_off(rest, cohort, rows, tag)
    return Parts(world, cohort, present, order)


def explain(parts: Parts, memberships: Mapping[int, Int64], columns: int) -> Real:
    """Return world and cohorts of each column, float32 [R, n].

    Args:
        parts: The decomposition.
        memberships: Group -> the columns in it.
        columns: n.
    """
    total = np.repeat(parts.world[:, np.newaxis], columns, axis=1)
    for group, members in memberships.items():
        if parts.present[group]:
            total[:, members] += parts.cohort[:, group, np.newaxis]
    return total


def row_median(values: Real) -> Real:
    """Return the median of each row of [R, n], float32 [R]."""
    size = values.shape[1]
    low, high = (size - 1) // 2, size // 2
    split = np.partition(values, (low, high) if low != high else low, axis=1)
    median: Real = (split[:, low] + split[:, high]) / 2
    return median


def _take_off(rest: Real, cohort: Real, rows: Int64, tag: TagGroups) -> None:
    """Take the medians of a tag's groups off some rows, in place.

    The columns are brought into the order of the groups and back: medians of
    neighbouring columns cost half of medians of scattered ones.
    """
    order = np.concatenate(tag.columns)
    part = rest[rows].take(order, axis=1)
    start = 0
    for group, columns in zip(tag.groups, tag.columns, strict=True):
        block = part[:, start : start + columns.size]
        median = row_median(block)
        block -= median[:, np.newaxis]
        cohort[rows, group] += median
        start += columns.size
    if order.size == rest.shape[1]:
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        rest[rows] = part.take(back, axis=1)
    else:
        rest[np.ix_(rows, order)] = part


def _best_first(rest: Real, tags: Sequence[TagGroups]) -> Int64:
    """Rank tags by how much of the absolute rest their medians take off."""
    gains = np.zeros((len(rest), len(tags)))
    for number, tag in enumerate(tags):
        for columns in tag.columns:
            part = rest[:, columns]
            left = np.abs(part - row_median(part)[:, np.newaxis])
            gains[:, number] += (np.abs(part) - left).sum(axis=1)
    return np.argsort(-gains, axis=1, kind="stable")
