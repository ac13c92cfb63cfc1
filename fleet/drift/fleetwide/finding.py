# SPDX-License-Identifier: Apache-2.0
"""What the fleetwide rule finds, as values.

Owns the kinds and their evidence; sentences are in ``words``.
"""

from dataclasses import dataclass
from typing import Literal

from fleet.drift.fleetwide.materiality import Distance

Kind = Literal["sensor_fault", "device", "cohort", "world", "deploy", "season"]


@dataclass(frozen=True, slots=True)
class Move:
    """One feature that moved.

    Attributes:
        feature: Its name.
        channel: ``mean``, ``spread``, ``shape``, or the counter of a fault.
        shift: Mean: reference sd. Spread: logarithm of the ratio of sd. Shape: normal
            score of the remainder. Fault: share of rows. Season: half-range in sd.
        evidence: e-value of the feature (device), or standard errors (wide).
        bins: The bin that gained most and the one that lost most, None when unknown.
        distance: Against the own baseline, None for wide causes.
    """

    feature: str
    channel: str
    shift: float
    evidence: float = 0.0
    bins: tuple[int, int] | None = None
    distance: Distance | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict to be opened.

    Attributes:
        kind: What kind of cause.
        subject: A device id, ``world``, or ``tag=value``.
        moves: What moved, the largest first; never empty.
        slot: When it was decided.
        change_slot: When it is estimated to have begun.
        provisional: Judged against the bundle's reference, not own history.
        is_material: Large enough to matter; else it is only noted.
        devices: How many devices it speaks about.
        streams: How many were judged together.
        run_length_windows: Mean windows between false alarms of this family, at the
            threshold that was passed.
        accuracy_loss: Least share of right outputs lost, None where not known.
    """

    kind: Kind
    subject: str
    moves: tuple[Move, ...]
    slot: int
    change_slot: int
    provisional: bool = False
    is_material: bool = True
    devices: int = 1
    streams: int = 0
    run_length_windows: float = 0.0
    accuracy_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """A verdict to be closed."""

    kind: Kind
    subject: str
    reason: str


Outcome = Finding | Closing
