# SPDX-License-Identifier: Apache-2.0
"""Sensor faults by counters: what no change of the world explains.

Owns four rules. Missing, stuck and out-of-range shares in two windows running; and
exact repeats that a feature never had before, the best sign of saturation.
What many devices show at once is no broken sensor: it is left to world and cohorts.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.scale import Scale, Slot

REASONS: Final = ("missing", "stuck", "outside", "saturated")
_SHARES = np.array([0.05, 0.5, 0.2], dtype=np.float32)[:, np.newaxis, np.newaxis]
_RUNNING = 2
_REPEATS, _MEMORY = 5.0, 36
_NEVER = 1e-5  # share of repeats in the history that still counts as none
_LEAST_HISTORY_ROWS = 2000.0
_COMMON_SHARE, _LEAST_COMMON = 0.2, 5
_LEAST_WIDTH = 5  # bins


@dataclass(eq=False)
class FaultMemory:
    """What the rules remember of D devices.

    Attributes:
        run: float32 [3, F, D], windows running that passed a share.
        usual: float32 [3, F, D], sums over the history: missing, repeat, outside.
        rows: float32 [F, D], rows of the history.
        repeats: float32 [F, D], decayed count of unusual repeats.
    """

    run: Real
    usual: Real
    rows: Real
    repeats: Real

    @classmethod
    def start(cls, features: int, devices: int) -> "FaultMemory":
        """Return an empty memory."""
        three = (3, features, devices)
        return cls(
            np.zeros(three, dtype=np.float32),
            np.zeros(three, dtype=np.float32),
            np.zeros(three[1:], dtype=np.float32),
            np.zeros(three[1:], dtype=np.float32),
        )

    def grow(self, devices: int) -> None:
        """Add devices, up to ``devices``."""
        features, have = self.rows.shape
        if devices > have:
            fresh = FaultMemory.start(features, devices - have)
            for one in fields(self):
                parts = getattr(self, one.name), getattr(fresh, one.name)
                setattr(self, one.name, np.concatenate(parts, axis=-1))


def find_faults(
    memory: FaultMemory, slot: Slot, scale: Scale, learning: Bools
) -> Bools:
    """Take in a slot and return which sensors are broken.

    Args:
        memory: Changed in place.
        slot: The windows.
        scale: The reference.
        learning: bool [n], columns whose counters still say what is usual.

    Returns:
        bool [4, F, n], a row a reason of ``REASONS``.
    """
    devices = slot.devices
    rows = slot.rows + slot.missing
    counted = np.stack((slot.missing, slot.repeat, slot.outside))
    share = counted / np.maximum(rows, 1)
    usual = memory.usual[..., devices] / np.maximum(memory.rows[:, devices], 1)
    usual[0] = np.maximum(usual[0], scale.missing[:, np.newaxis])
    over = (share > _SHARES + usual) & (share > 3 * usual) & (rows > 0)
    # A feature of few values repeats itself by nature.
    over[1] &= (scale.width >= _LEAST_WIDTH)[:, np.newaxis]
    over &= ~_is_common(over)
    run = np.where(over, memory.run[..., devices] + 1, 0)
    memory.run[..., devices] = run
    lasting = run >= _RUNNING
    # What a share will name in the next window is not saturation.
    saturated = _find_saturation(memory, slot, usual[1]) & ~over.any(axis=0)
    saturated &= (scale.width >= _LEAST_WIDTH)[:, np.newaxis]
    found = np.concatenate((lasting, saturated[np.newaxis]))
    clean = learning & ~found.any(axis=(0, 1)) & ~over.any(axis=(0, 1))
    memory.usual[..., devices] += counted * clean
    memory.rows[:, devices] += rows * clean
    left: Bools = np.asarray(found & ~_is_common(found))
    return left


def _is_common(found: Bools) -> Bools:
    """Whether so many devices show it at once that it is no broken sensor."""
    if found.shape[2] < _LEAST_COMMON:
        return np.zeros_like(found)
    many: Bools = np.asarray(found.mean(axis=2, keepdims=True) > _COMMON_SHARE)
    return many


def _find_saturation(memory: FaultMemory, slot: Slot, usual: Real) -> Bools:
    devices = slot.devices
    known = memory.rows[:, devices] >= _LEAST_HISTORY_ROWS
    unusual = np.where(known & (usual <= _NEVER), slot.repeat, 0)
    count = memory.repeats[:, devices] * (1 - 1 / _MEMORY) + unusual
    memory.repeats[:, devices] = count
    many: Bools = np.asarray(count >= _REPEATS)
    return many


def forget_faults(memory: FaultMemory, devices: Int64) -> None:
    """Start the rules afresh for some devices."""
    memory.run[..., devices] = 0
    memory.repeats[:, devices] = 0
