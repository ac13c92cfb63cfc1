# SPDX-License-Identifier: Apache-2.0
"""Watching what a model loses: labels that contradict it, shadows, the mix of classes.

Owns opening and closing the verdicts ``concept``, ``quantization`` and ``label_shift``,
and the document of what is known and what is missing. Streams of labels are in memory
only and are made again from the stored windows after a start: a kill changes nothing.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine

from edge_contract.binning import Int64
from edge_contract.profile import OutputReference, ReferenceProfile
from fleet.drift.error_stream import promised_errors
from fleet.drift.label_shift import LabelShift
from fleet.drift.loss_inputs import (
    LATE_HOURS,
    LabelStreams,
    estimate_late,
    read_late,
    read_shadows,
)
from fleet.drift.loss_words import (
    describe_confidence,
    label_facts,
    loss_document,
    loss_facts,
    performance_document,
)
from fleet.drift.mixture import Lean, estimate_fleet_shift
from fleet.drift.performance import CERTAIN, Known, Loss, find_losses
from fleet.services import Clock
from fleet.store.drift import close_verdict, list_mutes, open_verdict
from fleet.store.drift_fleets import list_open_fleet_verdicts
from fleet.store.engine import reading, writing
from fleet.store.performance import (
    has_hour_since,
    list_streams,
    replace_performance,
)
from fleet.store.profiles import ProfileCache
from fleet.store.windows import HOUR_US

_LOG = logging.getLogger(__name__)
WORLD: Final = "world"
KINDS: Final = ("label_shift", "concept", "quantization")
_FORGOTTEN_US: Final = 24 * HOUR_US
_LABELS_TO_CLOSE: Final = 200


@dataclass(frozen=True, eq=False)
class _Found:
    """A loss, on whom, and how sure."""

    subject: str
    loss: Loss
    confidence: str
    devices: int
    facts: dict[str, Any]


class LossWatch:
    """Judges the models of all fleets by what is known of their outputs.

    Args:
        engine: The database.
        clock: The time of verdicts.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._profiles = ProfileCache()
        self._streams: dict[tuple[str, bytes], LabelStreams] = {}

    def tick(self) -> None:
        """Take in new labels; judge; write what changed."""
        with reading(self._engine) as connection:
            pairs = list_streams(connection)
        for fleet, ref_id in pairs:
            with reading(self._engine) as connection:
                profile = self._profiles.find(connection, ref_id)
                if profile is None or not isinstance(profile.outputs, OutputReference):
                    continue
                document, found = self._judge(connection, fleet, profile)
                is_gone = self._is_gone(connection, fleet, ref_id)
            with writing(self._engine) as connection:
                replace_performance(connection, fleet, ref_id, document)
                self._write(connection, (fleet, profile), [] if is_gone else found)
                self._close(connection, (fleet, ref_id), found, is_gone=is_gone)

    # -- what is known --

    def _judge(
        self, connection: Connection, fleet: str, profile: ReferenceProfile
    ) -> tuple[dict[str, Any], list[_Found]]:
        stream = self._read_labels(connection, fleet, profile)
        since_us = self._clock.wall_us() - LATE_HOURS * HOUR_US
        by_device = read_late(connection, fleet, profile, since_us)
        mixture = _find_mixture(by_device, profile)
        shadow, shadows = read_shadows(connection, fleet, profile.ref_id)
        known = Known(
            accuracy=estimate_late(by_device.values(), profile),
            shift=None if mixture is None else mixture[0],
            feedback=stream.fleet.known,
            shadow=shadow,
        )
        lean = None if mixture is None else mixture[1]
        found = [
            _Found(
                WORLD,
                loss,
                describe_confidence(loss, known, lean),
                len(by_device),
                loss_facts(loss, known, stream.fleet, profile),
            )
            for loss in find_losses(known)
        ]
        if not any(one.loss.kind == "concept" for one in found):
            found += _find_devices(stream, by_device, profile)
        document = performance_document(known, stream.fleet, shadows, profile)
        return document | {"devices": len(by_device), "hours": LATE_HOURS}, found

    def _read_labels(
        self, connection: Connection, fleet: str, profile: ReferenceProfile
    ) -> LabelStreams:
        key, outputs = (fleet, profile.ref_id), profile.outputs
        if key not in self._streams and isinstance(outputs, OutputReference):
            self._streams[key] = LabelStreams(
                promised_errors(outputs.confidence_counts, outputs.confidence_correct)
            )
        self._streams[key].read(connection, *key)
        return self._streams[key]

    # -- verdicts --

    def _write(
        self,
        connection: Connection,
        where: tuple[str, ReferenceProfile],
        found: Iterable[_Found],
    ) -> None:
        fleet, profile = where
        now_us = self._clock.wall_us()
        live = {
            (one["kind"], one["subject"])
            for one in list_open_fleet_verdicts(connection, fleet, profile.ref_id)
        }
        muted = {
            one["subject"]
            for one in list_mutes(connection, now_us)
            if one["fleet"] == fleet
        }
        for one in found:
            if (one.loss.kind, one.subject) in live or one.subject in muted:
                continue
            is_device = one.subject != WORLD
            document = loss_document(
                one.loss,
                who=one.subject if is_device else "DEVICE",
                confidence=one.confidence,
                devices=one.devices,
                facts=one.facts,
            )
            open_verdict(
                connection,
                {
                    "device": one.subject if is_device else None,
                    "subject": one.subject,
                    "fleet": fleet,
                    "ref_id": profile.ref_id,
                    "kind": one.loss.kind,
                    "provisional": False,
                    "opened_us": now_us,
                    "evidence": document,
                },
            )
            _LOG.info("drift: verdict: %s", one.loss.summary)

    def _close(
        self,
        connection: Connection,
        key: tuple[str, bytes],
        found: Iterable[_Found],
        *,
        is_gone: bool,
    ) -> None:
        holds = {(one.loss.kind, one.subject) for one in found}
        for row in list_open_fleet_verdicts(connection, *key):
            if row["kind"] not in KINDS:
                continue
            reason = None
            if is_gone:
                reason = "no device uses this model any more"
            elif (row["kind"], row["subject"]) not in holds:
                reason = self._is_over(key, row)
            if reason is not None:
                now_us = self._clock.wall_us()
                close_verdict(connection, row["id"], now_us=now_us, reason=reason)
                _LOG.info("drift: %s closed: %s", row["kind"], reason)

    def _is_over(self, key: tuple[str, bytes], row: Mapping[str, Any]) -> str | None:
        if row["kind"] == "label_shift":
            return "the mix of classes is the reference's again"
        if row["kind"] == "quantization":
            return "the float original agrees again"
        stream = self._streams[key]
        one = stream.fleet
        if row["subject"] != WORLD:
            one = stream.devices.get(row["subject"], one)
        since = one.labels - int(row["evidence"]["facts"]["labels_seen"])
        return "labels agree again" if since >= _LABELS_TO_CLOSE else None

    def _is_gone(self, connection: Connection, fleet: str, ref_id: bytes) -> bool:
        since_us = self._clock.wall_us() - _FORGOTTEN_US
        return not has_hour_since(connection, fleet, ref_id, since_us)


def _find_mixture(
    by_device: Mapping[str, Int64], profile: ReferenceProfile
) -> tuple[LabelShift, Lean] | None:
    outputs = profile.outputs
    if not isinstance(outputs, OutputReference) or outputs.confusion is None:
        return None
    if not by_device:
        return None
    classes = np.stack([one[profile.layout.classes] for one in by_device.values()])
    # Noise of private windows may leave a class below nothing.
    return estimate_fleet_shift(np.maximum(classes, 0), outputs.confusion)


def _find_devices(
    stream: LabelStreams, by_device: Mapping[str, Int64], profile: ReferenceProfile
) -> list[_Found]:
    """Return devices whose own labels alone are enough; each pays for all."""
    found = []
    for device, one in stream.devices.items():
        known = one.known
        if known is None or known.e_value < CERTAIN * len(stream.devices):
            continue
        counts = [by_device[device]] if device in by_device else []
        accuracy = estimate_late(counts, profile)
        for loss in find_losses(Known(accuracy=accuracy, feedback=known)):
            confidence = f"e-value {known.e_value:.3g}"
            found.append(_Found(device, loss, confidence, 1, label_facts(one)))
    return found
