# SPDX-License-Identifier: Apache-2.0
"""The whole fleetwide rule over a simulated fleet.

Owns the adapter between simulator and rule: windows become slots as the server makes
them from stored ones, and sums since a change come from the newest windows kept.
"""

from collections import deque
from collections.abc import Callable

import numpy as np

from bench.harness.fleet_simulation import EDGES, HIGH, LOW, Fleet, Windows
from edge_contract.binning import Float64
from edge_contract.profile import FeatureReference, OutputReference, ReferenceProfile
from fleet.drift.fleetwide.finding import Outcome
from fleet.drift.fleetwide.rule import FleetRule
from fleet.drift.fleetwide.scale import Scale, Slot
from fleet.drift.fleetwide.state import FleetState

# A multiple of a day, as the slots of any midnight are.
FIRST_SLOT = 288 * 20_000
_KEPT_SLOTS = 320


def simulated_profile(features: int) -> ReferenceProfile:
    """Return the profile of standard normal rows."""
    counts = np.full(16, 375, dtype=np.int64)
    return ReferenceProfile(
        "vector",
        tuple(
            FeatureReference(
                f"f{number}",
                EDGES.astype(np.float32),
                counts,
                0,
                0.0,
                1.0,
                LOW,
                HIGH,
                0.0225,
                0.0225,
                0.01,
                0.01,
            )
            for number in range(features)
        ),
        OutputReference(
            ("a",),
            np.zeros(1, np.int64),
            np.zeros(15, np.float32),
            np.zeros(16, np.int64),
            np.zeros(16, np.int64),
            np.zeros(7, np.float32),
            np.zeros(8, np.int64),
        ),
        300,
        0,
        (),
    )


class KeptWindows:
    """The newest windows of a simulated fleet."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, np.ndarray, np.ndarray]] = deque(
            maxlen=_KEPT_SLOTS
        )

    def keep(self, number: int, windows: Windows) -> None:
        """Keep a slot."""
        self._kept.append((number, windows.counts.astype(np.uint16), windows.came))

    def sum_counts(self, device: int, since: int, until: int) -> Float64 | None:
        """Return float64 [F, 16] over slots ``since`` to ``until``."""
        some = [
            counts[..., device].astype(np.float64)
            for number, counts, came in self._kept
            if since <= number <= until and came[device]
        ]
        return np.sum(some, axis=0) if some else None

    def accuracy_loss(self, device: int, since: int, until: int) -> float | None:
        """Return None: simulated fleets have no outputs."""
        del device, since, until
        return None


class Run:
    """A simulated fleet and its rule, advanced together; a deep copy branches it.

    Args:
        fleet: The fleet.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        plan = fleet.plan
        self.scale = Scale.read(simulated_profile(plan.features))
        self.state = FleetState(plan.features)
        names = [f"d{number:05}" for number in range(plan.devices)]
        self.state.add_devices(names, dict(zip(names, fleet.tags, strict=True)))
        self.rule = FleetRule(self.scale, self.state)
        self.kept = KeptWindows()
        self.outcomes: list[Outcome] = []

    def take_tags(self) -> None:
        """Tell the rule that tags of devices have changed."""
        self.state.tags = [dict(one) for one in self.fleet.tags]
        self.rule.tags_changed()

    def advance(
        self, slots: int, watch: Callable[[Windows], None] | None = None
    ) -> None:
        """Simulate and judge so many slots."""
        for _ in range(slots):
            number = FIRST_SLOT + self.fleet.slot
            windows = self.fleet.next_windows()
            if watch is not None:
                watch(windows)
            self.kept.keep(number, windows)
            if not windows.came.any():
                continue  # the server hears nothing, so the rule is not asked
            slot = make_slot(number, windows, self.fleet.releases)
            self.outcomes += self.rule.advance(slot, self.kept)


def make_slot(number: int, windows: Windows, releases: list[str]) -> Slot:
    """Return the windows that came, as the rule takes them."""
    came = np.flatnonzero(windows.came)
    every = came.size == windows.came.size

    def some(values: np.ndarray) -> np.ndarray:
        chosen = values if every else values[..., came]
        return chosen.astype(np.float32)

    return Slot(
        number=number,
        devices=came,
        rows=some(windows.rows),
        mean=some(windows.mean),
        log_variance=some(np.log(windows.variance)),
        counts=some(windows.counts),
        missing=some(windows.missing),
        outside=some(windows.outside),
        repeat=some(windows.repeat),
        release=tuple(releases) if every else tuple(releases[one] for one in came),
        trusted=np.ones(came.size, dtype=bool),
    )
