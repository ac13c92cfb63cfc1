# SPDX-License-Identifier: Apache-2.0
"""The constants of the fleetwide rule, each with its reason.

Owns the operating point; ``bench/drift_false_alarms.py`` and its sisters measure it. It
reads no configuration: an operator who turns these loses the measured error rates.
"""

from dataclasses import dataclass
from typing import Final

CHANNELS: Final = ("mean", "spread", "shape")
SLOT_SECONDS: Final = 300
SLOTS_A_DAY: Final = 24 * 3600 // SLOT_SECONDS
SLOTS_AN_HOUR: Final = 3600 // SLOT_SECONDS
SLOTS_A_WEEK: Final = 7 * SLOTS_A_DAY


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """How cautious the evidence is.

    Attributes:
        allowance: Dead zone, in standard deviations of a window.
        upper: Normal quantile of the upper confidence limits of sd and lag-1
            correlation: an underestimate of either is what false alarms are made of.
    """

    allowance: float
    upper: float


@dataclass(frozen=True, slots=True)
class FleetwideParameters:
    """The rule for eight devices and more.

    Attributes:
        young: Point of devices with less history than ``settled_windows``.
        settled: Point of the others.
        wide: Point of world and cohorts.
        settled_windows: Three days.
        learning_windows: Own windows before a device is judged; a whole day, less the
            gaps that a day may have.
        least_rows: A window of fewer rows is left out.
        alpha: Level of e-BH.
        together: So many streams flagged together count by e-BH alone.
        lone: Least evidence of a stream flagged alone; also the fleet's weekly budget
            over ``budget`` (an exact CUSUM at ``h`` errs every ``6 h`` windows).
        budget: See ``lone``.
        guard: Log evidence above which windows do not join the baseline.
        clip: Largest whitened deviation that a window may contribute.
        slow_ratio: Variance of hourly means over what lag-1 correlation explains; a
            stream above it is judged on hours.
        least_group: Devices that a cohort needs, and a fleet for a world.
        device_gate: Least Jensen-Shannon distance or normalised Wasserstein distance
            of a device's pooled windows from its own baseline.
        wide_gate: Least median effect on world or cohort: reference sd (mean), half
            the change of log-variance (spread), a tenth of a score (shape).
        settle_slots: Windows from a wide alarm to its attribution.
        hold_slots: Windows that device flags wait while a wide cause grows.
        deploy_slots: A deployment so long ago may still be a cause.
        season_gate: Least half-range of a daily curve, in reference sd.
        baseline_cap: Windows after which a baseline forgets as it learns.
    """

    young: OperatingPoint = OperatingPoint(allowance=0.15, upper=1.28)
    settled: OperatingPoint = OperatingPoint(allowance=0.1, upper=0.5)
    wide: OperatingPoint = OperatingPoint(allowance=0.3, upper=1.28)
    settled_windows: int = 3 * SLOTS_A_DAY
    learning_windows: int = 260
    least_rows: int = 20
    alpha: float = 0.05
    together: int = 3
    lone: float = 4e6
    budget: float = 5.0
    guard: float = 9.2
    clip: float = 4.0
    slow_ratio: float = 2.0
    least_group: int = 8
    device_gate: float = 0.1
    wide_gate: float = 0.05
    settle_slots: int = 6
    hold_slots: int = 8
    deploy_slots: int = 36
    season_gate: float = 0.1
    baseline_cap: int = 14 * SLOTS_A_DAY
