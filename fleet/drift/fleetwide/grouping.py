# SPDX-License-Identifier: Apache-2.0
"""Which devices belong together: by tag, and by the release that they serve.

Owns the way from tags to groups, and the memory of deployments. The set that a
deployment touched is a tag from then on: else those not touched would be pushed the
other way by the world's median.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Bools
from fleet.drift.fleetwide.polish import TagGroups
from fleet.drift.fleetwide.state import Deployment, FleetState

RELEASE = "release"
_ONE_DEPLOYMENT = 36  # slots between devices of the same one


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of a fleet, over all its devices.

    Attributes:
        tags: Tag -> its groups.
        members: Group -> its devices.
    """

    tags: tuple[TagGroups, ...]
    members: dict[int, Int64]


def find_groups(state: FleetState, least: int) -> Grouping:
    """Return all groups of at least ``least`` devices; a tag needs two of them.

    One group of a tag, beside devices without it or in smaller groups, is enough too.
    """
    by_tag: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, tags in enumerate(state.tags):
        for key, value in {**tags, RELEASE: state.releases[place]}.items():
            by_tag[key][value].append(place)
    found: list[TagGroups] = []
    members: dict[int, Int64] = {}
    for key in sorted(by_tag):
        large = {
            value: places
            for value, places in sorted(by_tag[key].items())
            if least <= len(places) < len(state.devices)
        }
        if not large:
            continue
        columns = [state.add_group(f"{key}={value}") for value in large]
        places = [np.array(one, dtype=np.int64) for one in large.values()]
        members |= dict(zip(columns, places, strict=True))
        found.append(TagGroups(tuple(columns), tuple(places)))
    return Grouping(tuple(found), members)


def restrict(
    grouping: Grouping, pool: Bools, least: int
) -> tuple[tuple[TagGroups, ...], Int64]:
    """Return the groups over the pool's columns only, and the pool's devices.

    Args:
        grouping: Over all devices.
        pool: bool [D].
        least: Columns that a group needs.
    """
    columns = np.flatnonzero(pool)
    if columns.size == pool.size:
        return grouping.tags, columns
    place = np.cumsum(pool) - 1
    tags = []
    for tag in grouping.tags:
        kept = [
            (group, place[devices[pool[devices]]])
            for group, devices in zip(tag.groups, tag.columns, strict=True)
        ]
        kept = [one for one in kept if len(one[1]) >= least]
        if kept:
            tags.append(
                TagGroups(tuple(one[0] for one in kept), tuple(one[1] for one in kept))
            )
    return tuple(tags), columns


def note_releases(
    state: FleetState, devices: Int64, releases: tuple[str, ...], slot: int
) -> tuple[bool, list[int]]:
    """Remember which release each device serves.

    Returns:
        Whether any is news, and the devices that served another one before.
    """
    news, changed = False, []
    for place, release in zip(devices.tolist(), releases, strict=True):
        before = state.releases[place]
        if release == before:
            continue
        state.releases[place], news = release, True
        if before:
            changed.append(place)
            _join_deployment(state, release, place, slot)
    return news, changed


def _join_deployment(state: FleetState, release: str, place: int, slot: int) -> None:
    for one in state.deployments:
        if one.release == release and slot - one.last_slot <= _ONE_DEPLOYMENT:
            one.last_slot = slot
            one.devices.append(place)
            return
    state.deployments = [
        one for one in state.deployments if slot - one.last_slot <= 2 * _ONE_DEPLOYMENT
    ]
    state.deployments.append(Deployment(release, slot, slot, [place]))
