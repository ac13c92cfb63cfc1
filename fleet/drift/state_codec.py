# SPDX-License-Identifier: Apache-2.0
"""A device's drift state as bytes, exact to the last bit.

Owns the format of the ``state`` column. A format it does not know, or a state that
does not fit the profile, is an error; the engine then starts the device afresh.
"""

from typing import Any

import numpy as np

from edge_contract.binning import Float64, Int64
from edge_contract.canonical import decode_cbor, encode_cbor
from edge_contract.errors import EdgeError
from edge_contract.profile import ReferenceProfile
from edge_contract.window import WindowStatistics
from fleet.drift.baseline import Baseline
from fleet.drift.cusum import Cusum
from fleet.drift.device import DeviceState, Unit, Usual
from fleet.drift.errors import DriftStateError

_FORMAT = 2
_MAX_BYTES = 16 * 1024 * 1024


def encode_state(state: DeviceState) -> bytes:
    """Return the canonical bytes of ``state``."""
    open_ = state.open_statistics
    cusum, usual = state.cusum, state.usual
    return encode_cbor(
        {
            1: _FORMAT,
            2: [state.open_windows, state.units, state.windows, state.baseline.units],
            3: [open_.rows, open_.inferences, open_.failed],
            4: [_pack(open_.counts), _pack(open_.mean), _pack(open_.m2)],
            5: [_pack(state.baseline.contrasts), _pack(state.baseline.means)],
            6: [_unit_to_wire(one) for one in state.waiting],
            7: [_unit_to_wire(one) for one in state.recent],
            8: [_pack(cusum.evidence), _pack(cusum.contrasts), _pack(cusum.means)],
            9: [_pack(cusum.units), _pack(cusum.windows)],
            10: [usual.units, *map(_pack, (usual.means, usual.spreads, usual.repeats))],
        }
    )


def decode_state(data: bytes, profile: ReferenceProfile) -> DeviceState:
    """Read a state that was made under ``profile``.

    Raises:
        DriftStateError: Another format, or a state that does not fit the profile.
    """
    try:
        wire = decode_cbor(data, max_bytes=_MAX_BYTES)
        return _from_wire(wire, profile)
    except (EdgeError, LookupError, TypeError, ValueError) as error:
        msg = f"drift state under {profile.ref_id.hex()}: cannot be read: {error}"
        step = "nothing: the device's history starts afresh with its next window"
        raise DriftStateError(msg, next_step=step) from error


def _from_wire(wire: Any, profile: ReferenceProfile) -> DeviceState:
    if wire[1] != _FORMAT:
        msg = f"expected format {_FORMAT}, found {wire[1]!r}"
        raise ValueError(msg)
    features, size = len(profile.features), profile.layout.size
    sides = (2, 2, features)
    open_windows, units, windows, own_units = wire[2]
    rows, inferences, failed = wire[3]
    counts, mean, m2 = wire[4]
    return DeviceState(
        open_statistics=WindowStatistics(
            profile.ref_id,
            rows,
            inferences,
            failed,
            _integers(counts, (size,)),
            _floats(mean, (features,)),
            _floats(m2, (features,)),
        ),
        open_windows=open_windows,
        units=units,
        windows=windows,
        baseline=Baseline(
            own_units,
            _floats(wire[5][0], (2, features)),
            _floats(wire[5][1], (features,)),
        ),
        waiting=tuple(_unit_from_wire(one, features) for one in wire[6]),
        recent=tuple(_unit_from_wire(one, features) for one in wire[7]),
        usual=Usual(wire[10][0], *(_floats(one, (features,)) for one in wire[10][1:4])),
        cusum=Cusum(
            evidence=_floats(wire[8][0], sides),
            contrasts=_floats(wire[8][1], sides),
            means=_floats(wire[8][2], sides),
            units=_integers(wire[9][0], sides),
            windows=_integers(wire[9][1], sides),
        ),
    )


def _unit_to_wire(unit: Unit) -> list[Any]:
    numbers = (unit.contrasts, unit.means, unit.spreads, unit.repeats)
    return [*map(_pack, numbers), unit.windows]


def _unit_from_wire(wire: Any, features: int) -> Unit:
    contrasts, *others, windows = wire
    means, spreads, repeats = (_floats(one, (features,)) for one in others)
    return Unit(_floats(contrasts, (2, features)), means, spreads, repeats, windows)


def _pack(values: Float64 | Int64) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _floats(data: bytes, shape: tuple[int, ...]) -> Float64:
    return np.frombuffer(data, dtype="<f8").astype(np.float64).reshape(shape)


def _integers(data: bytes, shape: tuple[int, ...]) -> Int64:
    return np.frombuffer(data, dtype="<i8").astype(np.int64).reshape(shape)
