# SPDX-License-Identifier: Apache-2.0
"""Whether the mix of classes has changed in a whole fleet.

Owns the decision behind ``label_shift``. Predictions of one device hang together, so
the replicate is the device: most devices must lean the same way (a sign test), and the
pooled counts must give a mix that is far from the reference's and explains what is
predicted. Pure.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.label_shift import LabelShift, estimate_label_shift

_LEAST_DEVICES: Final = 8
_LEAST_PREDICTIONS: Final = 50  # of a device, to lean any way
_LEVEL: Final = 0.01


@dataclass(frozen=True, slots=True)
class Lean:
    """Which class most devices predict more (or less) often than on the reference.

    Attributes:
        label: Its number.
        devices: Devices that lean that way.
        judged: Devices with enough predictions.
        p_value: Of the sign test, times the number of classes.
    """

    label: int
    devices: int
    judged: int
    p_value: float


def estimate_fleet_shift(
    predictions: Int64, confusion: Int64
) -> tuple[LabelShift, Lean] | None:
    """Estimate the mix of classes in a fleet.

    Args:
        predictions: int64 [N, K], predictions a device and class of late.
        confusion: int64 [K, K], the reference's: row the truth, column the prediction.

    Returns:
        None where the devices are too few, do not agree, or nothing can be estimated.
    """
    enough = predictions[predictions.sum(axis=1) >= _LEAST_PREDICTIONS]
    if len(enough) < _LEAST_DEVICES:
        return None
    shift = estimate_label_shift(enough.sum(axis=0), confusion)
    lean = find_lean(enough, confusion)
    if shift is None or lean.p_value > _LEVEL:
        return None
    return shift, lean


def find_lean(predictions: Int64, confusion: Int64) -> Lean:
    """Return the class in which most devices lean the same way.

    Args:
        predictions: int64 [N, K], N at least 1, no row all zero.
        confusion: int64 [K, K], see ``estimate_fleet_shift``.

    >>> lean = find_lean(np.array([[9, 1]] * 12), np.array([[50, 0], [0, 50]]))
    >>> (lean.label, lean.devices, round(lean.p_value, 4))
    (0, 12, 0.001)
    """
    usual = confusion.sum(axis=0) / confusion.sum()
    shares = predictions / predictions.sum(axis=1, keepdims=True)
    judged = len(predictions)
    above = (shares > usual).sum(axis=0)
    below = (shares < usual).sum(axis=0)
    agree = np.maximum(above, below)
    label = int(np.argmax(agree))
    devices = int(agree[label])
    tail = sum(math.comb(judged, k) for k in range(devices, judged + 1))
    p_value = min(1.0, 2 * tail / 2**judged * predictions.shape[1])
    return Lean(label, devices, judged, p_value)
