# SPDX-License-Identifier: Apache-2.0
"""The constants of the drift rule, each with its reason.

Owns the operating point; ``bench/drift_watch.py`` measures it. It reads no
configuration: an operator who turns these loses the measured error rates.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DriftParameters:
    """The operating point of the rule for small fleets.

    Attributes:
        delta: Shift, in standard deviations of a unit, that the CUSUM is tuned to.
        allowance: Factor of the dead zone that pays for an uncertain baseline.
        clip: Largest standardised deviation a single unit may contribute.
        guard: A unit joins the device's own baseline only while every CUSUM of the
            device is at most this, so that drift does not become the new normal.
        join_age_units: Units a unit waits before it may join the baseline.
        own_history_units: Own units from which a verdict is no longer provisional.
        alpha: Level of e-BH over devices x features.
        location_gate: Smallest material shift of a mean, in reference sd.
        scale_gate: Smallest material change of the logarithm of the sd: 0.5 is a
            factor of 1.65 either way. How lively a wearer moves changes it by 0.3.
        clear_units: Units in a row back inside half the gates that close a verdict.
        cohort_devices: Fewer devices than this cannot show a common cause.
    """

    delta: float = 2.0
    allowance: float = 1.0
    clip: float = 4.0
    guard: float = 1.0
    join_age_units: int = 2
    own_history_units: int = 4
    alpha: float = 0.05
    location_gate: float = 0.6
    scale_gate: float = 0.5
    clear_units: int = 4
    cohort_devices: int = 8
