# SPDX-License-Identifier: Apache-2.0
"""Devices and their sensors: who is flagged, for what, and who has come back.

Owns the way from evidence to device verdicts: the alarm rule over the live streams of
the fleet, materiality on the windows pooled since the change, the provisional rule for
devices without history, faults, and the way back.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np

from edge_contract.binning import Float64
from fleet.drift.accuracy import MATERIAL_LOSS
from fleet.drift.fleetwide.alarm import find_alarms, lone_threshold
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.evidence import clear, shift_of
from fleet.drift.fleetwide.faults import REASONS, forget_faults
from fleet.drift.fleetwide.finding import Closing, Finding, Move, Outcome
from fleet.drift.fleetwide.history import WINDOWS, Y
from fleet.drift.fleetwide.materiality import Distance, measure_distance
from fleet.drift.fleetwide.parameters import (
    CHANNELS,
    SLOTS_AN_HOUR,
    FleetwideParameters,
)
from fleet.drift.fleetwide.scale import Scale, Slot
from fleet.drift.fleetwide.shape import normal_score, own_shares
from fleet.drift.fleetwide.state import NEVER, FleetState, Judged
from fleet.drift.fleetwide.wide_verdicts import RUN_FACTOR
from fleet.drift.fleetwide.yardsticks import Yardsticks

_LIVE_SLOTS = SLOTS_AN_HOUR
_ALSO_MOVED = 1e3  # evidence of a further feature of a flagged device
_FAULT_HEALS = 3 * SLOTS_AN_HOUR
_BACK_AFTER, _BACK_SHARE = 6 * SLOTS_AN_HOUR, 0.25
_LEAST_BACK = 0.05
_PROVISIONAL_LEVEL = 0.01
_PROVISIONAL_WINDOWS = SLOTS_AN_HOUR
_PROVISIONAL_GATES = np.array([0.6, 1.0])[:, np.newaxis, np.newaxis]
_MAD_TO_SD = 1.4826
# Amplitudes of a season have long tails, and an hour sees one phase of it only.
_PROVISIONAL_CAUTION = 1.5


class WindowPool(Protocol):
    """The windows of a device, summed over time."""

    def sum_counts(self, device: int, since: int, until: int) -> Float64 | None:
        """Return float64 [F, 16] over slots ``since`` to ``until``; None when lost."""
        ...

    def accuracy_loss(self, device: int, since: int, until: int) -> float | None:
        """Return the least accuracy lost since a slot, None where not known."""
        ...


class DeviceJudge:
    """Judges devices and sensors.

    Args:
        scale: The profile.
        state: The memory; changed in place.
        parameters: The operating point.
    """

    def __init__(
        self, scale: Scale, state: FleetState, parameters: FleetwideParameters
    ) -> None:
        self._scale = scale
        self._state = state
        self._parameters = parameters

    def judge(
        self,
        slot: Slot,
        fault: Bools,
        pool: WindowPool,
        sticks: Yardsticks,
        *,
        is_held: bool,
        is_hour: bool,
    ) -> list[Outcome]:
        """Return verdicts to open and to close.

        Args:
            slot: The windows.
            fault: bool [4, F, D], see ``faults``.
            pool: For materiality.
            sticks: The devices' yardsticks.
            is_held: A wide cause grows: only faults are judged.
            is_hour: An hour ends: those that learn are looked at.
        """
        number = slot.number
        outcomes = self._judge_faults(slot, fault)
        self._mute(number)
        outcomes += self._find_returned(number)
        if is_held:
            return outcomes
        if is_hour:
            outcomes += self._judge_learners(number, sticks)
        return outcomes + self._judge_settled(number, pool, sticks)

    # -- faults --

    def _judge_faults(self, slot: Slot, fault: Bools) -> list[Outcome]:
        state, number = self._state, slot.number
        outcomes: list[Outcome] = []
        for device in np.flatnonzero(fault.any(axis=(0, 1))).tolist():
            if device not in state.faulty:
                outcomes.append(self._fault(slot, device, fault[..., device]))
                every = np.arange(state.features)
                clear(state.evidence, every, np.array([device]))
            state.faulty[device] = number
        for device, last in list(state.faulty.items()):
            seen = state.last_seen[device] == number
            if seen and number - last >= _FAULT_HEALS:
                del state.faulty[device]
                reason = "the sensor counts as before"
                outcomes.append(Closing("sensor_fault", state.devices[device], reason))
        return outcomes

    def _fault(self, slot: Slot, device: int, fault: Bools) -> Finding:
        column = int(np.flatnonzero(slot.devices == device)[0])
        counted = (slot.missing, slot.repeat, slot.outside, slot.repeat)
        moves = []
        for reason, feature in np.argwhere(fault).tolist():
            rows = slot.rows[feature, column] + slot.missing[feature, column]
            share = float(counted[reason][feature, column] / max(rows, 1))
            name = self._scale.names[feature]
            moves.append(Move(name, REASONS[reason], share))
        number = slot.number
        name = self._state.devices[device]
        return Finding(
            "sensor_fault", name, tuple(moves), number, number - 1, streams=1
        )

    # -- drift against own history --

    def _judge_settled(
        self, slot: int, pool: WindowPool, sticks: Yardsticks
    ) -> list[Outcome]:
        state, parameters = self._state, self._parameters
        live = self._live(slot) & sticks.ready[0]
        evidence = state.evidence
        # Most slots end here: exp() of everything is not needed.
        if not (evidence.peaks()[live] >= -np.log(parameters.alpha)).any():
            return []
        e_values = evidence.totals()
        streams = np.broadcast_to(live, e_values.shape)
        flags = find_alarms(e_values, streams, parameters)
        count = int(live.sum()) * state.features
        found = (flags, e_values)
        return [
            replace(self._conclude(slot, device, found, pool, sticks), streams=count)
            for device in np.flatnonzero(flags.any(axis=0)).tolist()
        ]

    def _conclude(
        self,
        slot: int,
        device: int,
        found: tuple[Bools, Real],
        pool: WindowPool,
        sticks: Yardsticks,
    ) -> Finding:
        state, parameters = self._state, self._parameters
        flags, e_values = found
        moved = flags[:, device] | (e_values[:, device] >= _ALSO_MOVED)
        places = {
            int(feature): self._strongest(device, int(feature))
            for feature in np.flatnonzero(moved)
        }
        change = min(int(state.evidence.began[place]) for place in places.values())
        counts = pool.sum_counts(device, change, slot)
        moves = [
            self._measure(slot, place, counts, float(e_values[feature, device]), sticks)
            for feature, place in places.items()
        ]
        material = any(
            one.distance is None or one.distance.passes(parameters.device_gate)
            for one in moves
        )
        loss = pool.accuracy_loss(device, change, slot)
        material |= loss is not None and loss >= MATERIAL_LOSS
        if material:
            shifts = {
                (place[1], feature): move.shift
                for (feature, place), move in zip(places.items(), moves, strict=True)
            }
            state.judged[device] = Judged(slot, shifts, provisional=False)
        else:
            # Certain and too small to matter: the new level is learnt.
            relearn(state, device)
        streams = max(int(flags.size), 1)
        return Finding(
            kind="device",
            subject=state.devices[device],
            moves=tuple(sorted(moves, key=lambda one: -abs(one.shift))),
            slot=slot,
            change_slot=change,
            is_material=material,
            accuracy_loss=loss,
            run_length_windows=RUN_FACTOR
            * lone_threshold(streams, parameters)
            / streams,
        )

    def _strongest(self, device: int, feature: int) -> tuple[int, int, int, int]:
        log = self._state.evidence.log[:, :, feature, device].copy()
        log[1, -1] = -1  # a remainder that shrinks is no drift
        side, channel = np.unravel_index(int(log.argmax()), log.shape)
        return int(side), int(channel), feature, device

    def _measure(
        self,
        slot: int,
        place: tuple[int, int, int, int],
        counts: Float64 | None,
        e_value: float,
        sticks: Yardsticks,
    ) -> Move:
        state = self._state
        _, channel, feature, device = place
        where = (channel, feature, device)
        slow = bool(sticks.slow[where])
        measure = sticks.hours if slow else sticks.windows
        windows = slot + 1 - int(state.evidence.began[place])
        steps = max(windows // SLOTS_AN_HOUR, 1) if slow else windows
        settled = sticks.history[0, device] >= self._parameters.settled_windows
        point = self._parameters.settled if settled else self._parameters.young
        score = shift_of(state.evidence, measure, point.allowance, place, steps)
        shift = score / float(measure.inverse[where])
        distance, bins = self._distance(
            feature, device, counts, shift if CHANNELS[channel] == "mean" else 0.0
        )
        if CHANNELS[channel] == "spread":
            shift /= 2  # of the variance's logarithm: the sd's is half
        name = self._scale.names[feature]
        return Move(name, CHANNELS[channel], shift, e_value, bins, distance)

    def _distance(
        self, feature: int, device: int, counts: Float64 | None, mean_shift: float
    ) -> tuple[Distance | None, tuple[int, int] | None]:
        if counts is None:
            return None, None
        width = int(self._scale.width[feature])
        own = own_shares(
            self._state.shape_counts[feature : feature + 1, :, device, np.newaxis],
            self._scale.shares[feature : feature + 1],
        )[0, :width, 0].astype(np.float64)
        middle = np.clip(np.cumsum(own) - own / 2, 1e-5, 1 - 1e-5)
        some = counts[feature, :width]
        distance = measure_distance(
            some, own, normal_score(middle).astype(np.float64), mean_shift
        )
        change = some / max(float(some.sum()), 1.0) - own
        return distance, (int(change.argmax()), int(change.argmin()))

    # -- drift against the reference --

    def _judge_learners(self, slot: int, sticks: Yardsticks) -> list[Outcome]:
        """Flag devices whose level is far from all others and from the reference."""
        state = self._state
        history = state.history
        counts = history.counts[WINDOWS, 0] + history.waiting_counts[:, WINDOWS, 0].sum(
            0
        )
        learning = (
            self._live(slot) & ~sticks.ready[0] & (counts >= _PROVISIONAL_WINDOWS)
        )
        known = counts >= _PROVISIONAL_WINDOWS
        if not learning.any() or known.sum() < self._parameters.least_group:
            return []
        sums = history.sums[Y, :2] + history.waiting_sums[:, Y, :2].sum(0)
        level = np.nan_to_num(history.origin[:2]) + sums / np.maximum(counts, 1)
        middle = np.median(level[..., known], axis=-1, keepdims=True)
        far = level - middle
        spread = _MAD_TO_SD * np.median(np.abs(far[..., known]), axis=-1, keepdims=True)
        spread = np.maximum(spread, self._scale.between[..., np.newaxis])
        score = np.abs(far) / np.maximum(spread, 1e-3)
        tail = _PROVISIONAL_LEVEL / (2 * far.size)
        limit = -float(normal_score(np.array([tail], dtype=np.float64))[0])
        flags = (
            (score >= _PROVISIONAL_CAUTION * limit)
            & (np.abs(far) >= _PROVISIONAL_GATES)
            & learning
        )
        return [
            self._provisional(slot, device, far, flags[..., device], score)
            for device in np.flatnonzero(flags.any(axis=(0, 1))).tolist()
        ]

    def _provisional(
        self, slot: int, device: int, far: Real, flags: Bools, score: Real
    ) -> Finding:
        state = self._state
        moves, kept = [], {}
        for channel, feature in np.argwhere(flags).tolist():
            value = float(far[channel, feature, device])
            kept[channel, feature] = value
            shift = value / 2 if CHANNELS[channel] == "spread" else value
            certainty = float(score[channel, feature, device])
            name = self._scale.names[feature]
            moves.append(Move(name, CHANNELS[channel], shift, certainty))
        state.judged[device] = Judged(slot, kept, provisional=True)
        return Finding(
            kind="device",
            subject=state.devices[device],
            moves=tuple(sorted(moves, key=lambda one: -abs(one.shift))),
            slot=slot,
            change_slot=slot - SLOTS_AN_HOUR + 1,
            provisional=True,
            streams=int(score.size),
        )

    # -- the way back --

    def _find_returned(self, slot: int) -> list[Outcome]:
        state, history = self._state, self._state.history
        outcomes: list[Outcome] = []
        for device, one in list(state.judged.items()):
            if one.provisional:
                if not history.learning[device]:
                    outcomes.append(self._close(device, "has history of its own now"))
                continue
            if slot - one.slot < _BACK_AFTER or state.last_seen[device] != slot:
                continue
            recent = state.evidence.recent[..., device]
            if all(
                abs(recent[place]) <= max(_LEAST_BACK, _BACK_SHARE * abs(shift))
                for place, shift in one.moves.items()
            ):
                outcomes.append(self._close(device, "back at its baseline"))
        return outcomes

    def _close(self, device: int, reason: str) -> Closing:
        state = self._state
        del state.judged[device]
        clear(state.evidence, np.arange(state.features), np.array([device]))
        return Closing("device", state.devices[device], reason)

    # -- who is judged --

    def _live(self, slot: int) -> Bools:
        state = self._state
        live: Bools = state.last_seen > max(slot - _LIVE_SLOTS, NEVER)
        live[[*state.judged, *state.faulty]] = False
        return live

    def _mute(self, slot: int) -> None:
        """Drop the evidence of spread and shape right after a wide verdict."""
        state = self._state
        if state.muted.size and state.muted.max() > slot:
            state.evidence.log[:, 1:] *= state.muted <= slot


def relearn(state: FleetState, device: int) -> None:
    """Let a device learn its level anew; its verdict has been closed by someone."""
    state.judged.pop(device, None)
    state.faulty.pop(device, None)
    chosen = np.array([device])
    clear(state.evidence, np.arange(state.features), chosen)
    forget_faults(state.faults, chosen)
    state.history.forget(chosen)
    state.accepted[..., chosen] = 0
    state.shape_counts[..., chosen] = 0
    state.shape_next[..., chosen] = 0
    state.shape_ready[:, chosen] = False
