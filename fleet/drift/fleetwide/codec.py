# SPDX-License-Identifier: Apache-2.0
"""A fleet's drift state as bytes, exact to the last bit.

Owns the format: canonical CBOR of names, numbers and little-endian arrays, packed. A
state that cannot be read is an error; the engine then starts the fleet afresh.
"""

import zlib
from dataclasses import fields
from typing import Any, Final

import numpy as np

from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import EdgeError
from fleet.drift.errors import DriftStateError
from fleet.drift.fleetwide.evidence import Evidence
from fleet.drift.fleetwide.faults import FaultMemory
from fleet.drift.fleetwide.history import History
from fleet.drift.fleetwide.season import SamePhase
from fleet.drift.fleetwide.state import Deployment, FleetState, Growth, Judged

_FORMAT: Final = 1
_MAX_BYTES: Final = 2**31
_PARTS: Final = {
    "history": History,
    "evidence": Evidence,
    "faults": FaultMemory,
    "wide_history": History,
    "wide_evidence": Evidence,
    "season": SamePhase,
}
_ARRAYS: Final = (
    "last_seen",
    "usual_rows",
    "muted",
    "shape_counts",
    "shape_next",
    "shape_ready",
    "level",
    "born",
    "adapting",
    "accepted",
    "wide_muted",
    "wide_seen",
)


def encode_fleet_state(state: FleetState, pending: list[int]) -> bytes:
    """Return the bytes of a state and of the windows that wait for their slot.

    Args:
        state: The state.
        pending: Ids of windows that were read but belong to no closed slot.
    """
    growth = state.growth
    document = {
        "format": _FORMAT,
        "features": state.features,
        "slots": [state.slot, state.end, state.first_slot],
        "devices": state.devices,
        "tags": state.tags,
        "releases": state.releases,
        "groups": state.groups,
        "deployments": [
            [one.release, one.first_slot, one.last_slot, one.devices]
            for one in state.deployments
        ],
        "judged": [
            [device, one.slot, one.provisional, *_moves_to_wire(one.moves)]
            for device, one in state.judged.items()
        ],
        "faulty": [list(one) for one in state.faulty.items()],
        "effects": [
            [*state.wide_effects],
            _pack(np.array([*state.wide_effects.values()])),
        ],
        "seasonal": sorted(state.seasonal),
        "refused": state.refused,
        "pending": pending,
        "order": None if state.order is None else _pack(state.order),
        "growth": None
        if growth is None
        else [
            [growth.since, growth.last, growth.alarm, growth.slots],
            [_pack(one) for one in (growth.deviation, growth.seen, growth.wide)],
        ],
        "arrays": {name: _pack(getattr(state, name)) for name in _ARRAYS},
        "parts": {
            name: {
                one.name: _pack(getattr(getattr(state, name), one.name))
                for one in fields(kind)
            }
            for name, kind in _PARTS.items()
        },
    }
    return zlib.compress(encode_cbor(document), level=1)


def decode_fleet_state(data: bytes, features: int) -> tuple[FleetState, list[int]]:
    """Read a state that was made under a profile of so many features.

    Raises:
        DriftStateError: Another format, or a state that does not fit.
    """
    try:
        wire = decode_cbor(zlib.decompress(data), max_bytes=_MAX_BYTES)
        return _from_wire(wire, features), list(wire["pending"])
    except (EdgeError, LookupError, TypeError, ValueError, zlib.error) as error:
        msg = f"drift state of a fleet: cannot be read: {error}"
        step = "nothing: the fleet's history starts afresh with its next windows"
        raise DriftStateError(msg, next_step=step) from error


def _from_wire(wire: Any, features: int) -> FleetState:
    if wire["format"] != _FORMAT or wire["features"] != features:
        msg = f"expected format {_FORMAT} of {features} features"
        raise ValueError(msg)
    state = FleetState(
        features=wire["features"],
        slot=wire["slots"][0],
        end=wire["slots"][1],
        first_slot=wire["slots"][2],
        devices=list(wire["devices"]),
        tags=[dict(one) for one in wire["tags"]],
        releases=list(wire["releases"]),
        groups=list(wire["groups"]),
        deployments=[
            Deployment(a, b, c, list(d)) for a, b, c, d in wire["deployments"]
        ],
        judged={
            device: Judged(slot, _moves_from_wire(places, shifts), provisional)
            for device, slot, provisional, places, shifts in wire["judged"]
        },
        faulty={device: slot for device, slot in wire["faulty"]},  # noqa: C416
        wide_effects=_effects_from_wire(*wire["effects"]),
        seasonal=set(wire["seasonal"]),
        refused=dict(wire["refused"]),
    )
    for name in _ARRAYS:
        setattr(state, name, _unpack(wire["arrays"][name]))
    for name, kind in _PARTS.items():
        part = {key: _unpack(value) for key, value in wire["parts"][name].items()}
        setattr(state, name, kind(**part))
    state.order = None if wire["order"] is None else _unpack(wire["order"])
    if wire["growth"] is not None:
        numbers, arrays = wire["growth"]
        since, last, alarm, slots = numbers
        deviation, seen, wide = (_unpack(one) for one in arrays)
        state.growth = Growth(since, last, alarm, deviation, seen, wide, slots)
    return state


def _effects_from_wire(names: Any, values: Any) -> dict[str, float]:
    pairs = zip(names, _unpack(values), strict=True)
    return {str(name): float(value) for name, value in pairs}


def _moves_to_wire(moves: dict[tuple[int, int], float]) -> list[Any]:
    return [[list(place) for place in moves], _pack(np.array([*moves.values()]))]


def _moves_from_wire(places: Any, shifts: Any) -> dict[tuple[int, int], float]:
    return {
        (int(channel), int(feature)): float(shift)
        for (channel, feature), shift in zip(places, _unpack(shifts), strict=True)
    }


def _pack(array: Any) -> list[Any]:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return [little.dtype.str, list(array.shape), little.tobytes()]


def _unpack(wire: Any) -> Any:
    kind, shape, data = wire
    dtype = np.dtype(kind)
    if dtype.hasobject:
        msg = f"expected numbers, found {kind}"
        raise ValueError(msg)
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("=")).copy()
