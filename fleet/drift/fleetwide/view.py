# SPDX-License-Identifier: Apache-2.0
"""What a fleet's state says now, as a document of bounded size.

Owns what list, page and device show beside verdicts. Pure.
"""

from typing import Any, Final

import numpy as np

from fleet.drift.fleetwide.itemsets import find_common_tags
from fleet.drift.fleetwide.parameters import SLOTS_A_DAY, SLOTS_AN_HOUR
from fleet.drift.fleetwide.rule import FleetRule
from fleet.drift.fleetwide.scale import Scale
from fleet.drift.fleetwide.state import FleetState

MOST_DEVICES: Final = 200
_GATES = (0.1, 0.1)


def make_view(state: FleetState, rule: FleetRule, scale: Scale) -> dict[str, Any]:
    """Return the devices that moved most, counts of all, and what was refused."""
    sticks = rule.yardsticks
    known = sticks.ready.shape[-1]
    recent = state.evidence.recent[:2, :, :known]
    size = np.abs(recent[0]).max(axis=0) if known else np.zeros(0)
    first = {*state.judged, *state.faulty}
    order = sorted(range(known), key=lambda one: (one not in first, -size[one]))
    e_values = state.evidence.totals()
    ready = sticks.ready[0]
    devices = []
    for place in order[:MOST_DEVICES]:
        status = "quiet" if ready[place] else "learning"
        if place in state.judged:
            status = "drifted"
        if place in state.faulty:
            status = "faulty"
        windows = int(sticks.history[0, place])
        features = [
            {
                "name": name,
                "mean_shift_sd": round(float(recent[0, index, place]), 3),
                "log_spread_ratio": round(float(recent[1, index, place]) / 2, 3),
                "mean_gate_sd": _GATES[0],
                "log_spread_gate": _GATES[1],
                "evidence": float(f"{e_values[index, place]:.3g}"),
            }
            for index, name in enumerate(scale.names)
        ]
        devices.append(
            {
                "device": state.devices[place],
                "status": status,
                "windows": windows,
                "units": windows,
                "own_history_units": windows,
                "unit_rows": int(state.usual_rows[place]),
                "features": features,
            }
        )
    return {
        "devices": devices,
        "counted": {
            "devices": len(state.devices),
            "learning": int((~ready).sum()),
            "drifted": len(state.judged),
            "faulty": len(state.faulty),
            "groups": state.groups[1:],
        },
        "scope": _describe_scope(state, ready),
        "refused": dict(sorted(state.refused.items())),
    }


def _describe_scope(state: FleetState, ready: np.ndarray) -> str:
    groups = len(state.groups) - 1
    text = (
        f"{len(state.devices)} devices are judged together: world, {groups} cohorts "
        "and each device on its own."
    )
    common = find_common_tags(state.tags, state.judged)
    if common is not None:
        names = " and ".join(f"{key}={value}" for key, value in common.items)
        text += (
            f" {common.flagged} of {len(state.judged)} devices with a verdict of their "
            f"own have {names}, as {common.devices} devices do: look there first."
        )
    learning = int((~ready).sum())
    if learning:
        text += f" {learning} learn a first day; their verdicts are provisional."
    days = (state.slot + 1 - state.first_slot) / SLOTS_A_DAY
    if days < 2:
        hours = round((2 - days) * SLOTS_A_DAY / SLOTS_AN_HOUR)
        text += (
            f" Unseasoned: world and cohorts are judged in {hours} hours, when a day "
            "can be compared with the day before."
        )
    return text
