# SPDX-License-Identifier: Apache-2.0
"""One slot after the other: scores, decomposition, evidence, verdicts.

Owns the order of the steps, nothing of what they compute. The same slots in the same
order give the same verdicts, also across a restart between any two of them: all that
is kept beside ``FleetState`` is read from it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_contract.binning import Int64
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.device_verdicts import DeviceJudge, WindowPool
from fleet.drift.fleetwide.evidence import (
    Evidence,
    advance,
    clear,
    standardise,
    whiten,
)
from fleet.drift.fleetwide.faults import find_faults
from fleet.drift.fleetwide.finding import Outcome
from fleet.drift.fleetwide.grouping import (
    Grouping,
    find_groups,
    note_releases,
    restrict,
)
from fleet.drift.fleetwide.history import (
    CHUNK_SLOTS,
    WINDOWS,
    Values,
    close_chunk,
    close_hour,
    remember,
)
from fleet.drift.fleetwide.parameters import (
    CHANNELS,
    SLOTS_A_DAY,
    SLOTS_AN_HOUR,
    FleetwideParameters,
)
from fleet.drift.fleetwide.polish import explain, polish
from fleet.drift.fleetwide.scale import Scale, Slot
from fleet.drift.fleetwide.season import KEPT_SLOTS, enter, predict
from fleet.drift.fleetwide.shape import ShapeBasis, make_basis, own_shares, shape_scores
from fleet.drift.fleetwide.state import NEVER, FleetState, Number
from fleet.drift.fleetwide.wide_verdicts import WideJudge
from fleet.drift.fleetwide.yardsticks import Measure, Yardsticks, read_yardsticks

_ROWS_MEMORY = 1 / 36
_RECENT_MEMORY = 1 / 36
BLOCK = 10_000  # devices whose arrays are touched together: they fit the cache


@dataclass(frozen=True, eq=False)
class SlotView:
    """What one slot said of all D devices.

    Attributes:
        residual: float32 [3, F, D], the device's own deviation; 0 where not known.
            Known before it is judged: attribution asks how much devices stray.
        seen: bool [D].
        judged: bool [3, D], windows whose streams have a yardstick.
        season: float32 [3, F, 1], NaN where not known.
        wide: float32 [3, F, 1 + G], world and cohorts; NaN where absent.
        fault: bool [4, F, D].
    """

    residual: Real
    seen: Bools
    judged: Bools
    season: Real
    wide: Real
    fault: Bools


class FleetRule:
    """The rule for one fleet under one reference profile.

    Args:
        scale: The profile.
        state: The memory; changed in place.
        parameters: The operating point.
    """

    def __init__(
        self,
        scale: Scale,
        state: FleetState,
        parameters: FleetwideParameters | None = None,
    ) -> None:
        self._scale = scale
        self._parameters = parameters or FleetwideParameters()
        self.state = state
        self._devices = DeviceJudge(scale, state, self._parameters)
        self._wide = WideJudge(scale, state, self._parameters)
        self._renew()

    @property
    def yardsticks(self) -> Yardsticks:
        """What devices are measured with."""
        return self._yardsticks

    def tags_changed(self) -> None:
        """Read the groups again."""
        self._grouping: Grouping = find_groups(self.state, self._parameters.least_group)
        self.state.order = None
        self._wide.renew(self._yardsticks, self._grouping.members)

    def advance(self, slot: Slot, pool: WindowPool) -> list[Outcome]:
        """Take in one slot; slots come in growing order, gaps allowed.

        Args:
            slot: The windows; devices must have been added to the state.
            pool: Sums of a device's windows since a slot, for materiality.
        """
        state = self.state
        self._open_slot(slot)
        end = slot.number + slot.span
        is_hour = self._ends(end, SLOTS_AN_HOUR, 0)
        view = self._decompose(slot)
        self._weigh(slot, view)
        if is_hour:
            self._weigh_hour(view, slot.number)
        outcomes: list[Outcome] = []
        self._wide.judge(slot.number)
        if self._ends(end, SLOTS_A_DAY, state.first_slot):
            outcomes += self._wide.find_season(slot.number)
        self._wide.sum_growth(view.residual, view.judged[0], self._grouping.members)
        outcomes += self._wide.attribute(slot.number, self._grouping.members)
        outcomes += self._devices.judge(
            slot,
            view.fault,
            pool,
            self._yardsticks,
            is_held=self._wide.holds(slot.number),
            is_hour=is_hour,
        )
        self._close_slot(end)
        state.slot, state.end = slot.number, end
        return outcomes

    def _ends(self, end: int, period: int, origin: int) -> bool:
        """Whether a period ends with this slot, or ended in the gap before it."""
        return (end - origin) // period > (self.state.end - origin) // period

    # -- opening a slot --

    def _open_slot(self, slot: Slot) -> None:
        state = self.state
        if len(state.devices) != self._yardsticks.ready.shape[-1]:
            self._renew()
        if state.first_slot == NEVER:
            state.first_slot = slot.number
            state.slot, state.end = slot.number - 1, slot.number
        # What lies more than two days back has been forgotten anyway.
        for number in range(
            max(state.slot + 1, slot.number - KEPT_SLOTS), slot.number + 1
        ):
            enter(state.season, number)
        news, changed = note_releases(state, slot.devices, slot.release, slot.number)
        if news:
            self.tags_changed()
        if changed:
            every = np.arange(state.features)
            clear(state.evidence, every, np.array(changed))

    # -- one slot, decomposed --

    def _decompose(self, slot: Slot) -> SlotView:
        state, devices = self.state, slot.devices
        fault = find_faults(
            state.faults, slot, self._scale, ~self._yardsticks.ready[0, devices]
        )
        values = self._score(slot)
        season = predict(state.season, slot.number)
        shape = (len(CHANNELS), state.features, -1)
        known = season.reshape(shape)[..., :1]
        level = self._pick(self._yardsticks.level, devices)
        loaded = self._pick(self._yardsticks.loading, devices) * np.nan_to_num(known)
        own = self._yardsticks.ready[:, np.newaxis, devices]
        ready = own[0, 0]
        # Each channel by its own history: a level of no windows would be a guess, and
        # whoever falls silent would change the medians of the others.
        centred = values - np.where(own, level + loaded, 0)
        bad = fault.any(axis=(0, 1))
        bad |= np.isin(devices, np.fromiter(state.faulty, dtype=np.int64))
        explained, wide = self._polish(slot, centred, ready, bad, season)
        y = values - explained
        residual = np.where(ready, centred - explained, 0)
        # A feature without a value says nothing of drift: it is a fault, or nothing.
        empty = slot.rows < 1
        y = np.where(empty, level + loaded, y)
        residual[:, empty] = 0
        shaped = state.shape_ready[:, devices].any(axis=0)
        usable = slot.rows.max(axis=0) >= self._parameters.least_rows
        valid = np.stack((usable, usable, usable & shaped))
        judged = valid & self._yardsticks.ready[:, devices]
        world = wide[..., :1]
        self._remember(slot, y, valid, np.where(np.isnan(known), world, known))
        return SlotView(
            self._spread(residual * valid[:, np.newaxis], devices),
            self._spread(usable, devices),
            self._spread(judged, devices),
            season.reshape(shape),
            wide,
            self._spread(fault, devices),
        )

    def _score(self, slot: Slot) -> Real:
        """Return the three channels, float32 [3, F, n]; learn shares on the way."""
        state, devices = self.state, slot.devices
        if self._is_all(devices):
            state.shape_next += slot.counts
        else:
            state.shape_next[..., devices] += slot.counts
        scores = np.zeros_like(slot.mean)
        for start in range(0, devices.size, BLOCK):
            block = slice(start, start + BLOCK)
            chosen = devices[block]
            basis = self._basis if self._is_all(devices) else self._basis.take(chosen)
            if self._is_all(devices) and devices.size > BLOCK:
                basis = self._basis.take(chosen)
            scores[:, block] = shape_scores(
                slot.counts[..., block],
                slot.counts[..., block].sum(axis=1),
                basis,
                self._scale.width,
            )
        scores *= state.shape_ready[:, devices]
        values = np.stack((slot.mean, slot.log_variance, scores))
        return values - self._pick(state.accepted, devices)

    def _polish(
        self,
        slot: Slot,
        centred: Real,
        ready: Bools,
        bad: Bools,
        season: Real,
    ) -> tuple[Real, Real]:
        """Return what world and cohorts explain [3, F, n], and them [3, F, 1 + G]."""
        state, least = self.state, self._parameters.least_group
        groups = len(state.groups)
        shape = (len(CHANNELS), state.features, groups)
        pool = slot.trusted & ~bad
        settled = pool & ready
        if settled.sum() >= max(least, pool.sum() / 2):
            pool = settled
        place = np.full(len(state.devices), -1)
        place[slot.devices] = np.arange(slot.devices.size)
        members = {
            group: place[devices][place[devices] >= 0]
            for group, devices in self._grouping.members.items()
        }
        if pool.sum() < least:
            wide = np.nan_to_num(season).reshape(shape)
            parts = np.repeat(wide[..., :1], slot.devices.size, axis=2)
            for group, columns in members.items():
                parts[..., columns] += wide[..., group, np.newaxis]
            return parts, np.full(shape, np.nan, dtype=np.float32)
        everywhere = np.zeros(len(state.devices), dtype=bool)
        everywhere[slot.devices[pool]] = True
        tags, chosen = restrict(self._grouping, everywhere, least)
        rows = centred.reshape(-1, slot.devices.size)
        picked = rows if chosen.size == slot.devices.size else rows[:, place[chosen]]
        if self._ends(slot.number + slot.span, SLOTS_AN_HOUR, 0):
            state.order = None
        parts_ = polish(picked, tags, groups, state.order)
        state.order = parts_.order
        explained = explain(parts_, members, slot.devices.size)
        wide = np.concatenate(
            (parts_.world[:, np.newaxis], parts_.cohort[:, 1:]), axis=1
        )
        absent = ~parts_.present
        absent[0] = False
        wide[:, absent] = np.nan
        return explained.reshape(centred.shape), wide.reshape(shape)

    def _remember(self, slot: Slot, y: Real, valid: Bools, season: Real) -> None:
        state, devices = self.state, slot.devices
        follows = valid & (state.last_seen[devices] >= slot.number - slot.span)
        self._follows = self._spread(follows, devices)
        values = Values(
            self._spread(y, devices),
            season,
            self._spread(valid, devices),
            self._follows,
        )
        remember(state.history, values)
        rows = slot.rows.max(axis=0)
        usual = state.usual_rows[devices]
        change = np.where(usual > 0, _ROWS_MEMORY, 1) * (rows - usual)
        self._weight = self._spread(
            np.sqrt(np.minimum(1, rows / np.maximum(usual, 1))), devices
        )
        state.usual_rows[devices] = usual + change
        state.last_seen[devices] = slot.number

    # -- evidence --

    def _weigh(self, slot: Slot, view: SlotView) -> None:
        """Turn deviations into evidence, and hours at their end."""
        state = self.state
        which = view.judged[:, np.newaxis] & ~self._yardsticks.slow
        for start in range(0, len(state.devices), BLOCK):
            self._weigh_block(slice(start, start + BLOCK), view, which, slot.number)
        self._wide.weigh(slot, view.wide, view.season)

    def _weigh_block(
        self, block: slice, view: SlotView, which: Bools, number: int
    ) -> None:
        state, sticks = self.state, self._yardsticks
        evidence = _cut_evidence(state.evidence, block)
        measure = _cut(sticks.windows, block)
        residual = view.residual[..., block]
        score = standardise(residual, measure) * self._weight[block]
        follows = (self._follows & view.judged)[:, np.newaxis, block]
        innovation = whiten(
            score, evidence.before, follows, measure.phi, self._parameters.clip
        )
        advance(
            evidence,
            innovation,
            measure,
            self._allowance[block],
            which[..., block],
            number,
        )
        judged = view.judged[:, np.newaxis, block]
        np.copyto(evidence.before, score, where=judged)
        evidence.recent += _RECENT_MEMORY * (residual - evidence.recent) * judged
        state.evidence.log[..., block] = evidence.log

    def _weigh_hour(self, view: SlotView, number: int) -> None:
        state, sticks = self.state, self._yardsticks
        mean, whole = close_hour(state.history)
        which = (whole & sticks.ready)[:, np.newaxis] & sticks.slow
        if which.any():
            season = np.nan_to_num(view.season[..., :1])
            deviation = mean + np.nan_to_num(state.history.origin)
            deviation = deviation - sticks.level - sticks.loading * season
            score = standardise(deviation, sticks.hours)
            before = state.evidence.hour_before
            innovation = whiten(
                score,
                np.nan_to_num(before),
                ~np.isnan(before),
                sticks.hours.phi,
                self._parameters.clip,
            )
            advance(
                state.evidence, innovation, sticks.hours, self._allowance, which, number
            )
            state.evidence.hour_before = np.where(which, score, np.nan).astype(
                np.float32
            )
        self._wide.close_hour()

    # -- closing a slot --

    def _close_slot(self, end: int) -> None:
        state = self.state
        peaks = state.evidence.peaks()
        np.maximum(state.history.peaks[0], peaks, out=state.history.peaks[0])
        self._wide.note_peaks()
        if self._ends(end, CHUNK_SLOTS, state.first_slot):
            barred = np.zeros(len(state.devices), dtype=bool)
            barred[[*(k for k, v in state.judged.items() if not v.provisional)]] = True
            barred[[*state.faulty]] = True
            self._learn_shapes(barred)
            close_chunk(
                state.history,
                self._parameters.guard,
                self._parameters.baseline_cap,
                barred,
            )
            self._wide.close_chunk()
            self._renew()

    def _learn_shapes(self, barred: Bools) -> None:
        """Let the rows of half a day join the shares where all stayed quiet."""
        state = self.state
        quiet = state.history.learning | (
            state.history.peaks.max(axis=0) < self._parameters.guard
        )
        state.shape_counts += state.shape_next * (quiet & ~barred)
        state.shape_next[:] = 0

    def _renew(self) -> None:
        """Read yardsticks, groups and weights from the state."""
        state, parameters = self.state, self._parameters
        history = state.history
        own = history.counts[WINDOWS, 0]
        history.learning &= own < parameters.learning_windows
        settled = own >= parameters.settled_windows
        point = np.where(settled, parameters.settled.upper, parameters.young.upper)
        self._allowance = np.where(
            settled, parameters.settled.allowance, parameters.young.allowance
        ).astype(np.float32)
        self._yardsticks = read_yardsticks(
            history,
            point.astype(np.float32),
            parameters.learning_windows,
            parameters.slow_ratio,
        )
        known = state.shape_counts.sum(axis=1) > 0
        state.shape_ready = known & self._yardsticks.ready[0]
        self._basis: ShapeBasis = make_basis(
            own_shares(state.shape_counts, self._scale.shares)
        )
        self._grouping = find_groups(state, parameters.least_group)
        self._wide.renew(self._yardsticks, self._grouping.members)

    def _is_all(self, devices: Int64) -> bool:
        return devices.size == len(self.state.devices)

    def _pick(self, array: Real, devices: Int64) -> Real:
        return array if self._is_all(devices) else array[..., devices]

    def _spread(self, array: NDArray[Number], devices: Int64) -> NDArray[Number]:
        """Return an array over all devices, zero where a device was not seen."""
        if self._is_all(devices):
            return array
        shape = (*array.shape[:-1], len(self.state.devices))
        whole = np.zeros(shape, dtype=array.dtype)
        whole[..., devices] = array
        return whole


def _cut(measure: Measure, block: slice) -> Measure:
    return Measure(
        measure.inverse[..., block],
        measure.phi[..., block],
        measure.freedom[..., block],
        measure.damping[..., block],
    )


def _cut_evidence(evidence: Evidence, block: slice) -> Evidence:
    """Return a view of some columns; its ``log`` must be written back."""
    return Evidence(
        evidence.log[..., block],
        evidence.began[..., block],
        evidence.before[..., block],
        evidence.hour_before[..., block],
        evidence.recent[..., block],
    )
