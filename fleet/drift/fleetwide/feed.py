# SPDX-License-Identifier: Apache-2.0
"""From windows in the order of arrival to slots in the order of time.

Owns when a slot is complete: once half of the live devices have sent windows two slots
on. That depends on nothing but the windows before, so a replay gives the same slots. A
single mad clock can neither hurry nor hold the fleet; what cannot be used is counted
with a reason. A window of several slots (merged in an outbox) counts in its middle one;
one that comes up to an hour after its slot was closed counts in the first open one, so
that a device which connects once an hour is judged at all.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.profile import ReferenceProfile
from edge_contract.window import WindowStatistics, merge
from fleet.drift.fleetwide.parameters import SLOT_SECONDS, SLOTS_A_DAY, SLOTS_AN_HOUR
from fleet.drift.fleetwide.scale import Scale, Slot, read_columns
from fleet.drift.fleetwide.season import KEPT_SLOTS
from fleet.drift.fleetwide.state import NEVER, FleetState

SLOT_US: Final = SLOT_SECONDS * 1_000_000
_GRACE = 2
_LATEST = SLOTS_AN_HOUR  # slots that a window may be late by
_LEAST_FLEET = 8  # as many as a fleet has that is judged as a whole
_MOST_PENDING = 200_000  # windows; then the oldest slot closes whatever is missing
LATE, AHEAD, MAD = "late", "ahead", "clock"


@dataclass(frozen=True, eq=False)
class Window:
    """One stored window, as the fleetwide rule takes it."""

    id: int
    device: str
    slot: int
    release: str
    is_trusted: bool
    statistics: WindowStatistics
    span: int = 1  # slots that it is long


def span_of(duration_us: int) -> int:
    """Return how many slots a window is long, an hour's at most.

    >>> span_of(600_000_000), span_of(64_000_000)
    (2, 1)
    """
    return min(max(round(duration_us / SLOT_US), 1), SLOTS_AN_HOUR)


def slot_of(start_us: int, duration_us: int) -> int:
    """Return the slot that a window's middle lies in.

    >>> slot_of(600_000_000, 300_000_000)
    2
    """
    return (start_us + duration_us // 2) // SLOT_US


class SlotFeed:
    """Collects windows and gives complete slots.

    Args:
        profile: The reference profile of all windows.
        scale: The same, as arrays.
        state: The fleet; devices new to it are added, refusals counted.
    """

    def __init__(
        self, profile: ReferenceProfile, scale: Scale, state: FleetState
    ) -> None:
        self._profile = profile
        self._scale = scale
        self._state = state
        self._pending: dict[int, dict[str, list[Window]]] = {}
        self._ahead: set[str] = set()  # devices with windows past the grace
        self._heard: set[str] = set()  # devices with any window that waits
        self._known = 0  # devices heard of in a day before the first waiting slot
        self._waiting = 0

    @property
    def pending_ids(self) -> list[int]:
        """Ids of windows that wait for their slot, growing."""
        return sorted(
            one.id
            for slot in self._pending.values()
            for windows in slot.values()
            for one in windows
        )

    def take(self, window: Window, tags: dict[str, str]) -> list[Slot]:
        """Take in one window; return the slots that are complete by it.

        Args:
            window: The window.
            tags: The tags of its device.
        """
        state = self._state
        refusal = self._refusal(window)
        if refusal:
            state.refuse(refusal)
            return []
        if state.place_of(window.device) is None:
            state.add_devices([window.device], {window.device: tags})
        self.put(window)
        closed = []
        while len(self._pending) > 1 and (
            len(self._ahead) >= self._needed() or self._waiting > _MOST_PENDING
        ):
            closed.append(self._close(min(self._pending)))
            self._count()
        return closed

    def put(self, window: Window) -> None:
        """Let a window wait for its slot; it was taken before.

        After a kill late windows are put last: they join the slot that they were in.
        """
        number = window.slot
        if self.is_late(window):
            number = min(self._pending, default=self._state.slot + 1)
        first = min(self._pending, default=number)
        slot = self._pending.setdefault(number, {})
        slot.setdefault(window.device, []).append(window)
        self._waiting += 1
        self._heard.add(window.device)
        if number < first:
            self._count()
        elif number >= first + _GRACE:
            self._ahead.add(window.device)

    def is_late(self, window: Window) -> bool:
        """Whether a window's slot is closed."""
        return window.slot <= self._state.slot

    def _count(self) -> None:
        """Count afresh who waits: once a slot, never once a window."""
        first = min(self._pending)
        self._heard = {device for some in self._pending.values() for device in some}
        self._ahead = {
            device
            for number, devices in self._pending.items()
            if number >= first + _GRACE
            for device in devices
        }
        seen = self._state.last_seen > first - SLOTS_A_DAY
        self._known = int(seen.sum())

    def _refusal(self, window: Window) -> str:
        if not 0 <= window.slot < 2**31:
            return MAD
        if window.slot <= self._state.slot - _LATEST:
            return LATE
        newest = max(self._state.slot, min(self._pending, default=window.slot))
        if self._state.slot != NEVER and window.slot > newest + KEPT_SLOTS:
            return AHEAD
        return ""

    def _needed(self) -> int:
        """Return how many devices must be ahead: half of those heard of in a day."""
        devices = max(self._known, len(self._heard))
        if self._state.slot == NEVER and devices < _LEAST_FLEET:
            # Who speaks first, perhaps with a mad clock, is not the fleet.
            return _LEAST_FLEET
        return max(1, (devices + 1) // 2)

    def _close(self, number: int) -> Slot:
        columns = []
        for device, windows in self._pending.pop(number).items():
            self._waiting -= len(windows)
            place = self._state.place_of(device)
            if place is not None:
                columns.append((place, windows))
        columns.sort(key=lambda one: one[0])
        layout = self._profile.layout
        sums = []
        for _, windows in columns:
            total = windows[0].statistics
            # Moments of mad values may overflow; ``read_columns`` bounds them.
            with np.errstate(over="ignore", invalid="ignore"):
                for one in windows[1:]:
                    total = merge(total, one.statistics, layout)
            sums.append(total)
        newest = [_newest(windows) for _, windows in columns]
        return Slot(
            number=number,
            devices=np.array([place for place, _ in columns], dtype=np.int64),
            release=tuple(one.release for one in newest),
            trusted=np.array([one.is_trusted for one in newest]),
            span=int(np.median([one.span for one in newest])),
            **read_columns(sums, self._profile, self._scale),
        )


def _newest(windows: list[Window]) -> Window:
    """Return the window of the latest slot, of several the last that came."""
    return max(reversed(windows), key=lambda one: one.slot)
