# SPDX-License-Identifier: Apache-2.0
"""What is read to judge a model's errors: labels, shadows, outputs of late.

Owns the streams of labels in memory, and which shadow is a float original. It judges
nothing; see ``losses``.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection

from edge_contract.binning import Float64, Int64
from edge_contract.errors import EdgeError
from edge_contract.evidence import decode_feedback
from edge_contract.profile import OutputReference, ReferenceProfile
from fleet.drift.accuracy import AccuracyEstimate, estimate_accuracy
from fleet.drift.error_stream import ErrorStream
from fleet.drift.labelled import ErrorEvidence
from fleet.store.performance import (
    list_hours_since,
    list_labelled_windows_since,
    list_manifests,
    list_shadow_sums,
)
from fleet.store.statistics import statistics_from_columns

_LOG = logging.getLogger(__name__)
LATE_HOURS: Final = 3  # of late: what confidence and classes are judged on
_AT_A_TIME: Final = 2000
_DIFFERENCE: Final = 0.02  # of winners that a quantized model may have otherwise
_ID_DIGITS: Final = 16


@dataclass
class LabelStreams:
    """The labels under one reference profile in one fleet."""

    promises: Float64 | None
    fleet: ErrorStream = field(init=False)
    devices: dict[str, ErrorStream] = field(default_factory=dict)
    last_id: int = 0

    def __post_init__(self) -> None:
        """Begin without labels."""
        self.fleet = ErrorStream(self.promises)

    def read(self, connection: Connection, fleet: str, ref_id: bytes) -> None:
        """Take in the labels of windows that are new."""
        while rows := list_labelled_windows_since(
            connection, fleet, ref_id, self.last_id, limit=_AT_A_TIME
        ):
            for row in rows:
                self.last_id = int(row["id"])
                try:
                    feedback = decode_feedback(row["feedback"])
                except EdgeError as error:
                    _LOG.warning("drift: labels of window %s: %s", row["id"], error)
                    continue
                self.fleet.add(feedback)
                own = self.devices.setdefault(row["device"], ErrorStream(self.promises))
                own.add(feedback)


def read_late(
    connection: Connection, fleet: str, profile: ReferenceProfile, since_us: int
) -> dict[str, Int64]:
    """Return each device's counts since a time, int64 [layout.size]."""
    found: dict[str, Int64] = {}
    for row in list_hours_since(connection, fleet, profile.ref_id, since_us):
        counts = read_counts(row, profile)
        if counts is not None:
            found[row["device"]] = found.get(row["device"], 0) + counts
    return found


def read_shadows(
    connection: Connection, fleet: str, ref_id: bytes
) -> tuple[ErrorEvidence | None, list[dict[str, Any]]]:
    """Return the evidence of float shadows, and the sums of all that run now."""
    manifests = list_manifests(connection)
    evidence: ErrorEvidence | None = None
    sums = []
    for row in list_shadow_sums(connection, fleet, ref_id):
        serving = (row["serving"] or {}).values()
        if row["digest8"].hex() not in {one[:_ID_DIGITS] for one in serving}:
            continue
        is_float = _is_float_beside_quantized(row, manifests)
        sums.append(
            {
                "device": row["device"],
                "release": row["digest8"].hex(),
                "shadow": row["shadow8"].hex(),
                "compared": row["compared"],
                "disagreed": row["disagreed"],
                "is_float_original": is_float,
            }
        )
        if is_float:
            start = evidence or ErrorEvidence(_DIFFERENCE)
            evidence = start.add(row["compared"], row["disagreed"])
    return evidence, sums


def estimate_late(
    counts: Iterable[Int64], profile: ReferenceProfile
) -> AccuracyEstimate | None:
    """Estimate accuracy from counts of late; None where nothing can be said."""
    outputs, every = profile.outputs, list(counts)
    if not every or not isinstance(outputs, OutputReference):
        return None
    # Noise of private windows may leave a bin below nothing.
    total = np.maximum(np.sum(every, axis=0)[profile.layout.confidence], 0)
    return estimate_accuracy(
        total, outputs.confidence_counts, outputs.confidence_correct
    )


def read_counts(row: Mapping[str, Any], profile: ReferenceProfile) -> Int64 | None:
    """Read the counts of a row; None where it is damaged."""
    try:
        return statistics_from_columns(row, profile.layout).counts
    except EdgeError:
        return None


def _is_float_beside_quantized(
    row: Mapping[str, Any], manifests: Mapping[bytes, Mapping[str, Any]]
) -> bool:
    served, shadow = manifests.get(row["digest8"]), manifests.get(row["shadow8"])
    if served is None or shadow is None or served["name"] != shadow["name"]:
        return False
    hardware = (row["birth"] or {}).get("hardware") or {}
    device_profile = str(hardware.get("device_profile", "default"))
    return (
        _dtype(served, device_profile) != "float32"
        and _dtype(shadow, device_profile) == "float32"
    )


def _dtype(manifest: Mapping[str, Any], device_profile: str) -> str:
    selected = manifest["selected"]
    chosen = selected.get(device_profile, selected["default"])
    found = next(one for one in manifest["variants"] if one["id"] == chosen)
    return str(found["dtype"])
