# SPDX-License-Identifier: Apache-2.0
"""A finding in words and as a document.

Owns every sentence that the drift engine says, so that command line, REST API and
dashboard say the same. Pure.
"""

from typing import Any, Final

from fleet.drift.decide import Finding, MovedFeature
from fleet.drift.device import DeviceState
from fleet.drift.parameters import DriftParameters
from fleet.drift.sensor import SensorFault

# Words and unit of a fault's amount.
_FAULTS: Final = {
    "stuck": ("stuck at one value", "share of rows"),
    "saturated": ("exact repeats that it never had", "share of rows"),
    "gain": ("another gain", "factor"),
    "turned": ("turned by half a turn", "place of the axis"),
}
# Where a shift of a mean stops being small: the reference rows' own sd.
_LARGE_SHIFT = 1.0


def describe_scope(devices: int, parameters: DriftParameters) -> str:
    """Say what can be judged with so many devices."""
    if devices < parameters.cohort_devices:
        return (
            f"{devices} devices report. Fewer than {parameters.cohort_devices} cannot "
            "show a common cause, so each device is judged on its own: there is no "
            "verdict on the world or on a cohort."
        )
    return (
        f"{devices} devices report, fewer than {parameters.cohort_devices} under each "
        "reference profile: each is judged on its own, and there is no verdict on the "
        "world or on a cohort."
    )


def describe_move(move: MovedFeature) -> str:
    """Say how one feature moved.

    >>> describe_move(MovedFeature("ax", "location", 1.51, 900.0, 14))
    'ax: mean 1.5 sd higher'
    >>> describe_move(MovedFeature("wy", "scale", -0.7, 900.0, 14))
    'wy: spread x 0.50'
    """
    if move.channel == "location":
        direction = "higher" if move.shift > 0 else "lower"
        return f"{move.name}: mean {abs(move.shift):.1f} sd {direction}"
    if move.channel in _FAULTS:
        return f"{move.name}: {_FAULTS[move.channel][0]}"
    return f"{move.name}: spread x {2.718281828459045**move.shift:.2f}"


def describe_fault(fault: SensorFault) -> str:
    """Say what a sensor does.

    >>> describe_fault(SensorFault("gain", ("ax", "ay", "az"), 0.5))
    'the gain of ax, ay, az is 0.50 of what it was'
    >>> describe_fault(SensorFault("turned", ("ax", "ay", "az"), 2))
    'ax, ay, az are turned by half a turn about az: mounted the other way round'
    """
    names = ", ".join(fault.features)
    axis = fault.features[int(fault.amount) % len(fault.features)]
    texts = {
        "stuck": f"{names} stuck at one value",
        "saturated": (
            f"{names} saturated: {fault.amount:.0%} of values repeat exactly, which "
            "they never did"
        ),
        "gain": f"the gain of {names} is {fault.amount:.2f} of what it was",
        "turned": (
            f"{names} are turned by half a turn about {axis}: mounted the other way "
            "round"
        ),
    }
    return texts[fault.name]


def describe_finding(device: str, finding: Finding) -> str:
    """Say in one or two sentences what happened to a device."""
    if finding.fault is not None:
        return f"A sensor of {device} is broken: {describe_fault(finding.fault)}."
    moves = ", ".join(describe_move(one) for one in finding.features)
    text = (
        f"{device} no longer sees what its model was built on ({moves}), for about "
        f"{finding.delay_windows} windows when it was found."
    )
    if finding.provisional:
        text += (
            " Provisional: the device has little history of its own and was compared "
            "with the bundle's reference."
        )
    return text


def evidence_document(
    device: str,
    finding: Finding,
    state: DeviceState,
    unit_rows: int,
    parameters: DriftParameters,
) -> dict[str, Any]:
    """Return all that a verdict stands on, as JSON values."""
    return {
        "summary": describe_finding(device, finding),
        "features": [move_document(one) for one in finding.features],
        "action": "collect labels" if finding.provisional else "quarantine",
        "confidence": f"e-value {max(one.e_value for one in finding.features):.3g}",
        "delay_windows": finding.delay_windows,
        "windows_at_decision": state.windows,
        "units_at_decision": state.units,
        "own_history_units": state.baseline.units,
        "unit_rows": unit_rows,
        "streams": finding.streams,
        "alpha": parameters.alpha,
        "false_alarms": describe_error_rate(finding.streams, parameters),
        "next_step": _next_step(device, finding),
    }


def _next_step(device: str, finding: Finding) -> str:
    if finding.fault is not None:
        return f"look at {device} on site"
    return (
        f"look at the drift page of {device}; then ask it for samples: "
        f"edge-fleet sample request {device}"
    )


def move_document(move: MovedFeature) -> dict[str, Any]:
    """Return one moved feature as JSON values."""
    unit = "reference sd" if move.channel == "location" else "log of the ratio of sd"
    if move.channel in _FAULTS:
        unit = _FAULTS[move.channel][1]
    return {
        "name": move.name,
        "channel": move.channel,
        "direction": "up" if move.shift > 0 else "down",
        "size": "large" if abs(move.shift) >= _LARGE_SHIFT else "material",
        "shift": round(move.shift, 3),
        "shift_unit": unit,
        "evidence": float(f"{move.e_value:.3g}"),
        "windows": move.windows,
        "summary": describe_move(move),
    }


def describe_error_rate(streams: int, parameters: DriftParameters) -> str:
    """Say what is promised about false alarms, and under what condition."""
    alone = streams / parameters.alpha
    return (
        f"a lone stream passes at an e-value of {alone:.0f}: without drift, no sooner "
        f"than after {alone:.0f} units on average, and one of all {streams} no sooner "
        f"than after {1 / parameters.alpha:.0f}; a shift must be material besides. "
        "This holds as far as the bundle's variances do."
    )
