# SPDX-License-Identifier: Apache-2.0
"""All that the fleetwide rule remembers of one fleet under one reference profile.

Owns the arrays and their growth when a device or a group of devices is new. Column 0 of
the wide families is the world; the groups follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_contract.binning import BINS, Int64
from fleet.drift.fleetwide.arrays import Real
from fleet.drift.fleetwide.evidence import Evidence
from fleet.drift.fleetwide.faults import FaultMemory
from fleet.drift.fleetwide.history import History
from fleet.drift.fleetwide.parameters import CHANNELS
from fleet.drift.fleetwide.season import SamePhase

Number = TypeVar("Number", bound=np.generic)

WORLD = "world"
NEVER = -(2**31) + 1


@dataclass(slots=True)
class Deployment:
    """A release that came to some devices within a short time."""

    release: str
    first_slot: int
    last_slot: int
    devices: list[int]


@dataclass(slots=True)
class Judged:
    """A device with an open verdict: its moves by (channel, feature)."""

    slot: int
    moves: dict[tuple[int, int], float]
    provisional: bool


@dataclass(eq=False)
class Growth:
    """What is summed while a wide cause grows.

    Attributes:
        since: First slot that is summed.
        last: Newest slot in which it still grew.
        alarm: Slot of the alarm, ``NEVER`` before it.
        deviation: float32 [3, F, D], sums of all that is unexplained.
        seen: float32 [D], slots in those.
        wide: float32 [3, F, 1 + G], sums of world and cohorts beyond prediction.
        slots: How many slots are in ``wide``.
    """

    since: int
    last: int
    alarm: int
    deviation: Real
    seen: Real
    wide: Real
    slots: int


@dataclass(eq=False)
class FleetState:
    """The whole memory; arrays are changed in place by the step that owns it."""

    features: int
    slot: int = NEVER
    end: int = NEVER  # where the newest slot's windows end
    first_slot: int = NEVER
    devices: list[str] = field(default_factory=list)
    tags: list[dict[str, str]] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=lambda: [WORLD])
    deployments: list[Deployment] = field(default_factory=list)
    judged: dict[int, Judged] = field(default_factory=dict)
    faulty: dict[int, int] = field(default_factory=dict)  # device -> last bad slot
    wide_effects: dict[str, float] = field(default_factory=dict)
    seasonal: set[int] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    growth: Growth | None = None

    def __post_init__(self) -> None:
        """Make the empty arrays."""
        kinds, features = len(CHANNELS), self.features
        self.last_seen: Int64 = np.zeros(0, dtype=np.int64)
        self.usual_rows: Real = np.zeros(0, dtype=np.float32)
        self.muted: Int64 = np.zeros((features, 0), dtype=np.int64)
        self.shape_counts: Real = np.zeros((features, BINS, 0), dtype=np.float32)
        self.shape_next: Real = np.zeros((features, BINS, 0), dtype=np.float32)
        self.shape_ready = np.zeros((features, 0), dtype=bool)
        self.history = History.start(kinds, features, 0)
        self.evidence = Evidence.start(kinds, features, 0)
        self.faults = FaultMemory.start(features, 0)
        self.wide_history = History.start(kinds, features, 1)
        self.wide_evidence = Evidence.start(kinds, features, 1)
        self.season = SamePhase.start(kinds * features, 1)
        self.level: Real = np.zeros((kinds, features, 1), dtype=np.float32)
        self.born: Int64 = np.full(1, NEVER, dtype=np.int64)  # slot of each group
        self.adapting: Int64 = np.full((features, 1), NEVER, dtype=np.int64)
        self.accepted: Real = np.zeros((kinds, features, 0), dtype=np.float32)
        self.wide_muted: Int64 = np.zeros(features, dtype=np.int64)
        self.wide_seen: Int64 = np.full(1, NEVER, dtype=np.int64)
        self.order: Int64 | None = None  # of tags, a row; see ``polish``
        self._places: dict[str, int] = {}

    def place_of(self, device: str) -> int | None:
        """Return the place of a device, None when it is not known."""
        if len(self._places) != len(self.devices):
            self._places = {name: place for place, name in enumerate(self.devices)}
        return self._places.get(device)

    def add_devices(self, names: list[str], tags: Mapping[str, dict[str, str]]) -> None:
        """Add devices never heard of before."""
        more, total = len(names), len(self.devices) + len(names)
        if not more:
            return
        self.devices += names
        self.tags += [dict(tags.get(name, {})) for name in names]
        self.releases += [""] * more
        self.last_seen = np.append(self.last_seen, np.full(more, NEVER))
        self.usual_rows = np.append(self.usual_rows, np.zeros(more, dtype=np.float32))
        self.shape_ready = _widen(self.shape_ready, more)
        self.muted = _widen(self.muted, more)
        self.accepted = _widen(self.accepted, more)
        self.shape_counts = _widen(self.shape_counts, more)
        self.shape_next = _widen(self.shape_next, more)
        self.history.grow(total)
        self.evidence.grow(total)
        self.faults.grow(total)
        if self.growth is not None:
            self.growth.deviation = _widen(self.growth.deviation, more)
            self.growth.seen = _widen(self.growth.seen, more)

    def add_group(self, name: str) -> int:
        """Return the column of a group, new or known."""
        if name in self.groups:
            return self.groups.index(name)
        self.groups.append(name)
        columns = len(self.groups)
        self.wide_history.grow(columns)
        self.wide_evidence.grow(columns)
        self.season.grow(columns)
        self.level = _widen(self.level, 1)
        fresh = np.full((self.features, 1), NEVER, dtype=np.int64)
        self.adapting = np.concatenate((self.adapting, fresh), axis=1)
        self.born = np.append(self.born, self.slot)
        self.wide_seen = np.append(self.wide_seen, NEVER)
        if self.growth is not None:
            self.growth.wide = _widen(self.growth.wide, 1)
        return columns - 1

    def refuse(self, reason: str) -> None:
        """Count a window that could not be used."""
        self.refused[reason] = self.refused.get(reason, 0) + 1


def _widen(array: NDArray[Number], more: int) -> NDArray[Number]:
    shape = (*array.shape[:-1], more)
    return np.concatenate((array, np.zeros(shape, dtype=array.dtype)), axis=-1)
