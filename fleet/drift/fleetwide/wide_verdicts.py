# SPDX-License-Identifier: Apache-2.0
"""World, cohorts and deployments: evidence, attribution, and their verdicts.

Owns what happens to the medians that ``polish`` gives: each is compared with what the
time of day predicts, weighed like a device's stream, and once one alarms, six windows
later the cause is named over the devices themselves. Its effect then becomes the level.
"""

import math
from dataclasses import replace

import numpy as np

from edge_contract.binning import Int64
from fleet.drift.fleetwide.alarm import find_alarms, lone_threshold
from fleet.drift.fleetwide.arrays import Bools, Real
from fleet.drift.fleetwide.attribution import Candidate, Cause, attribute
from fleet.drift.fleetwide.evidence import advance, clear, standardise, whiten
from fleet.drift.fleetwide.finding import Closing, Finding, Kind, Move, Outcome
from fleet.drift.fleetwide.history import (
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
from fleet.drift.fleetwide.scale import Scale, Slot
from fleet.drift.fleetwide.season import KEPT_SLOTS, half_ranges, has_season, write
from fleet.drift.fleetwide.state import NEVER, WORLD, FleetState, Growth
from fleet.drift.fleetwide.yardsticks import Measure, Yardsticks, read_yardsticks

_WORLD_GROWS, _COHORT_GROWS = 50.0, 1000.0
_STILL_GROWS = 6  # slots after which a cause that did not alarm is dropped
_CHANNEL_SPEAKS = 4.0  # least log evidence of a channel that is attributed
_GATES = np.array([1.0, 2.0, 10.0])  # of ``wide_gate``, a channel
_PRIOR_PHI, _PRIOR_CAUTION, _PRIOR_FREEDOM = 0.6, 1.5, 100.0
_MEDIAN_ERROR = 1.2533
_BARRED = 99.0  # a peak that keeps a chunk from joining the baseline
_ADAPTING_SLOTS = SLOTS_A_DAY // 2
_PROMPT = 2  # slots between a change and the deployment that made it
RUN_FACTOR = 6.0  # an exact CUSUM at h errs every 6 h windows (Lorden; measured)


class WideJudge:
    """Judges world and cohorts.

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
        self._sticks: Yardsticks
        self._unexpected: Real

    # -- evidence --

    def renew(self, devices: Yardsticks, members: dict[int, Int64]) -> None:
        """Read the yardsticks of world and groups from the state."""
        state, parameters = self._state, self._parameters
        history = state.wide_history
        own = history.counts[WINDOWS, 0]
        history.learning &= own < parameters.learning_windows
        columns = len(state.groups)
        sticks = read_yardsticks(
            history,
            np.full(columns, parameters.wide.upper, dtype=np.float32),
            parameters.learning_windows,
            math.inf,
        )
        self._is_prior = np.zeros(columns, dtype=bool)
        if devices.ready[0].any():
            late = state.born > state.first_slot + SLOTS_A_DAY
            self._is_prior = late & ~sticks.ready[0]
            sticks = _give_prior(sticks, devices, members, self._is_prior)
        self._sticks = sticks

    def weigh(self, one: Slot, wide: Real, season: Real) -> None:
        """Turn a slot's medians into evidence.

        Args:
            one: The slot.
            wide: float32 [3, F, 1 + G], NaN where absent.
            season: float32 [3, F, 1 + G], predicted; NaN where not known.
        """
        state, sticks, slot = self._state, self._sticks, one.number
        write(state.season, slot, (wide - state.level).reshape(-1, wide.shape[-1]))
        expected = np.where(self._is_prior & np.isnan(season), 0, season)
        y = wide - expected - state.level
        seen = ~np.isnan(y[0, 0])
        y = np.where(seen, y, 0).astype(np.float32)
        kinds = len(CHANNELS)
        valid = np.repeat(seen[np.newaxis], kinds, axis=0)
        follows = valid & (state.wide_seen >= slot - one.span)
        nothing = np.zeros((kinds, state.features, 1), dtype=np.float32)
        remember(state.wide_history, Values(y, nothing, valid, follows))
        judged = (valid & sticks.ready)[:, np.newaxis]
        score = standardise(y - sticks.level, sticks.windows)
        innovation = whiten(
            score,
            state.wide_evidence.before,
            follows[:, np.newaxis],
            sticks.windows.phi,
            self._parameters.clip,
        )
        allowance = np.full(len(seen), self._parameters.wide.allowance, np.float32)
        which = np.broadcast_to(judged, y.shape)
        advance(state.wide_evidence, innovation, sticks.windows, allowance, which, slot)
        np.copyto(state.wide_evidence.before, score, where=judged)
        state.wide_seen[seen] = slot
        # What polish takes off a young group is put back for attribution, its shape
        # too: without it, the rest of the fleet would seem to have moved.
        put_back = judged | (valid & self._is_prior)[:, np.newaxis]
        self._unexpected = np.where(put_back, y - sticks.level, 0).astype(np.float32)
        self._adapt(slot)

    def _adapt(self, slot: int) -> None:
        """Go on estimating an accepted effect: a few windows gave it a wide error."""
        state = self._state
        age = slot + 1 - state.adapting
        which = (age > 0) & (age <= _ADAPTING_SLOTS)
        if which.any():
            change = np.where(which, self._unexpected / np.maximum(age, 1), 0)
            state.level += change.astype(np.float32)

    def close_hour(self) -> None:
        """End the hour that runs."""
        close_hour(self._state.wide_history)

    def note_peaks(self) -> None:
        """Keep the most evidence of the chunk that fills."""
        peaks = self._state.wide_history.peaks[0]
        np.maximum(peaks, self._state.wide_evidence.peaks(), out=peaks)

    def close_chunk(self) -> None:
        """Let the oldest chunk join the baselines that stayed quiet."""
        parameters = self._parameters
        barred = np.zeros(len(self._state.groups), dtype=bool)
        history = self._state.wide_history
        close_chunk(history, parameters.guard, parameters.baseline_cap, barred)

    # -- growth and alarm --

    def judge(self, slot: int) -> None:
        """Note what grows and what alarms."""
        state = self._state
        state.wide_evidence.log[:, -1, state.wide_muted > slot] = 0
        e_values = state.wide_evidence.totals()
        growing = bool((e_values[:, 0] >= _WORLD_GROWS).any())
        growing |= bool((e_values[:, 1:] >= _COHORT_GROWS).any())
        growth = state.growth
        if growing and growth is None:
            growth = state.growth = self._start_growth(slot)
        if growth is not None:
            if growing:
                growth.last = slot
            if growth.alarm == NEVER and self._alarms(e_values):
                growth.alarm = slot
            elif growth.alarm == NEVER and slot - growth.last > _STILL_GROWS:
                state.growth = None

    def holds(self, slot: int) -> bool:
        """Whether device flags wait because a wide cause grows."""
        growth = self._state.growth
        if growth is None:
            return False
        young = slot - growth.since < self._parameters.hold_slots
        return growth.alarm != NEVER or young

    def sum_growth(
        self, residual: Real, seen: Bools, members: dict[int, Int64]
    ) -> None:
        """Add a slot to what is summed while a cause grows.

        Args:
            residual: float32 [3, F, D], the devices' own deviations.
            seen: bool [D], devices with a yardstick that were seen.
            members: Group -> its devices.
        """
        growth = self._state.growth
        if growth is None:
            return
        deviation = residual + self._unexpected[..., :1]
        for group, devices in members.items():
            deviation[..., devices] += self._unexpected[..., group, np.newaxis]
        growth.deviation += deviation * seen
        growth.seen += seen
        growth.wide += self._unexpected
        growth.slots += 1

    def _start_growth(self, slot: int) -> Growth:
        state = self._state
        shape = (len(CHANNELS), state.features)
        return Growth(
            since=slot,
            last=slot,
            alarm=NEVER,
            deviation=np.zeros((*shape, len(state.devices)), dtype=np.float32),
            seen=np.zeros(len(state.devices), dtype=np.float32),
            wide=np.zeros((*shape, len(state.groups)), dtype=np.float32),
            slots=0,
        )

    def _alarms(self, e_values: Real) -> bool:
        pool = np.broadcast_to(self._sticks.ready[0], e_values.shape)
        for part in (slice(0, 1), slice(1, None)):
            found = find_alarms(e_values[:, part], pool[:, part], self._parameters)
            if found.any():
                return True
        return False

    # -- attribution --

    def attribute(self, slot: int, members: dict[int, Int64]) -> list[Outcome]:
        """Name the causes of an alarm once enough windows are summed."""
        state, growth = self._state, self._state.growth
        if growth is None or growth.alarm == NEVER:
            return []
        if slot - growth.alarm < self._parameters.settle_slots:
            return []
        log = state.wide_evidence.log
        peak = log.max(axis=(0, 3))  # [3, F]
        features = np.flatnonzero(peak.max(axis=0) >= math.log(_COHORT_GROWS))
        change = self._change_slot(features, growth)
        mean = growth.deviation / np.where(growth.seen > 0, growth.seen, np.nan)
        candidates = self._candidates(change, members)
        found: dict[str, list[tuple[Cause, int, int]]] = {}
        for feature in features.tolist():
            for channel in np.flatnonzero(peak[:, feature] >= _CHANNEL_SPEAKS).tolist():
                gate = float(self._parameters.wide_gate * _GATES[channel])
                for cause in attribute(mean[channel, feature], candidates, gate):
                    entry = (cause, channel, feature)
                    found.setdefault(cause.candidate.name, []).append(entry)
        outcomes = [self._conclude(one, slot, change) for one in found.values()]
        if not found:
            outcomes = [self._note_immaterial(slot, change, growth)]
        self._accept(slot, change, features, found)
        return outcomes

    def _change_slot(self, features: Int64, growth: Growth) -> int:
        evidence = self._state.wide_evidence
        if not features.size:
            return growth.since
        log = evidence.log[:, :, features]
        place = np.unravel_index(int(log.argmax()), log.shape)
        return int(evidence.began[:, :, features][place])

    def _candidates(self, change: int, members: dict[int, Int64]) -> list[Candidate]:
        state, parameters = self._state, self._parameters
        everyone = np.arange(len(state.devices))
        found = [Candidate("world", WORLD, everyone, 2)]
        deployed = set()
        for one in state.deployments:
            near = one.first_slot - _PROMPT <= change <= one.last_slot + _PROMPT
            if change - one.last_slot <= parameters.deploy_slots:
                columns = np.array(sorted(set(one.devices)), dtype=np.int64)
                name = f"release={one.release}"
                deployed.add(name)
                found.append(Candidate("deploy", name, columns, 0 if near else 3))
        for group, devices in members.items():
            name = state.groups[group]
            if name not in deployed:
                found.append(Candidate("cohort", name, devices, 1))
        return found

    def _conclude(
        self, entries: list[tuple[Cause, int, int]], slot: int, change: int
    ) -> Outcome:
        """Open, renew or close the verdict of one cause."""
        state = self._state
        candidate = entries[0][0].candidate
        kind: Kind = candidate.kind  # type: ignore[assignment]
        moves, left = [], 0
        for cause, channel, feature in entries:
            key = f"{kind}/{candidate.name}/{channel}/{feature}"
            before = state.wide_effects.get(key, 0.0)
            total = before + cause.effect
            if before and abs(total) < abs(before) / 2:
                state.wide_effects.pop(key)
                continue
            state.wide_effects[key] = total
            shift = total / 2 if CHANNELS[channel] == "spread" else total
            name = self._scale.names[feature]
            moves.append(Move(name, CHANNELS[channel], shift, cause.score))
        prefix = f"{kind}/{candidate.name}/"
        left = sum(key.startswith(prefix) for key in state.wide_effects)
        if not moves and not left:
            return Closing(kind, candidate.name, "back at its baseline")
        if not moves:
            cause, channel, feature = entries[0]
            name = self._scale.names[feature]
            moves = [Move(name, CHANNELS[channel], cause.effect, cause.score)]
        finding = self._finding(kind, candidate.name, moves, (slot, change))
        return replace(finding, devices=len(candidate.columns))

    def _note_immaterial(self, slot: int, change: int, growth: Growth) -> Finding:
        state = self._state
        log = state.wide_evidence.log.max(axis=0)
        channel, feature, column = np.unravel_index(int(log.argmax()), log.shape)
        effect = growth.wide[channel, feature, column] / max(growth.slots, 1)
        name = self._scale.names[feature]
        move = Move(name, CHANNELS[channel], float(effect), 0.0)
        kind: Kind = "cohort" if column else "world"
        finding = self._finding(kind, state.groups[column], [move], (slot, change))
        return replace(finding, is_material=False, devices=len(state.devices))

    def _finding(
        self, kind: Kind, subject: str, moves: list[Move], when: tuple[int, int]
    ) -> Finding:
        streams = self._state.features * len(self._state.groups)
        return Finding(
            kind=kind,
            subject=subject,
            moves=tuple(sorted(moves, key=lambda one: -abs(one.shift))),
            slot=when[0],
            change_slot=when[1],
            streams=streams,
            run_length_windows=RUN_FACTOR
            * lone_threshold(streams, self._parameters)
            / streams,
        )

    def _accept(
        self,
        slot: int,
        change: int,
        features: Int64,
        found: dict[str, list[tuple[Cause, int, int]]],
    ) -> None:
        """Make the new level the level, and start the evidence on it afresh."""
        state, growth = self._state, self._state.growth
        state.growth = None
        caused = {feature for entries in found.values() for _, _, feature in entries}
        features = np.array(sorted(caused), dtype=np.int64) if caused else features
        if growth is None or not features.size:
            return
        for entries in found.values():
            for cause, channel, feature in entries:
                self._accept_cause(cause, channel, feature, (slot, change))
        # What time of day predicts must not hold the change itself.
        moved = growth.wide[:, features] / max(growth.slots, 1)
        shape = (KEPT_SLOTS, len(CHANNELS), state.features, len(state.groups))
        recent = state.season.recent.reshape(shape)
        for number in range(max(change, slot - KEPT_SLOTS + 1), slot + 1):
            recent[number % KEPT_SLOTS][:, features] -= moved
        state.wide_history.peaks[0] = _BARRED
        state.wide_muted[features] = slot + SLOTS_A_DAY
        clear(state.wide_evidence, features, np.arange(len(state.groups)))
        clear(state.evidence, features, np.arange(len(state.devices)))

    def _accept_cause(
        self, cause: Cause, channel: int, feature: int, when: tuple[int, int]
    ) -> None:
        state, candidate = self._state, cause.candidate
        devices, (slot, change) = candidate.columns, when
        if CHANNELS[channel] != "shape":
            state.accepted[channel, feature, devices] += cause.effect
        # Shares of another level: shapes are learnt anew.
        state.muted[feature, devices] = slot + SLOTS_A_DAY
        state.shape_counts[feature][:, devices] = 0
        state.shape_next[feature][:, devices] = 0
        state.shape_ready[feature, devices] = False
        if candidate.name in state.groups:
            state.adapting[feature, state.groups.index(candidate.name)] = change

    # -- season --

    def find_season(self, slot: int) -> list[Outcome]:
        """Look for daily curves at the end of a day."""
        state = self._state
        if slot + 1 - state.first_slot < KEPT_SLOTS - SLOTS_AN_HOUR:
            return []
        size, agreement = half_ranges(state.season, slot, 0)
        gate = self._parameters.season_gate
        rows = has_season(size, agreement, gate)[: state.features]
        found = set(np.flatnonzero(rows).tolist())
        if state.seasonal and not found:
            state.seasonal = set()
            return [Closing("season", WORLD, "no daily season any more")]
        if found <= state.seasonal:
            return []
        state.seasonal |= found
        moves = [
            Move(
                self._scale.names[one], "mean", float(size[one]), float(agreement[one])
            )
            for one in sorted(state.seasonal)
        ]
        when = (slot, state.first_slot)
        finding = self._finding("season", WORLD, moves, when)
        return [replace(finding, devices=len(state.devices))]


def _give_prior(
    sticks: Yardsticks,
    devices: Yardsticks,
    members: dict[int, Int64],
    is_prior: Bools,
) -> Yardsticks:
    """Give groups without history the error that a median of their size has."""
    ready = devices.ready[0]
    sd = np.median(devices.sd[..., ready], axis=-1)
    level, inverse = sticks.level.copy(), sticks.windows.inverse.copy()
    phi, freedom = sticks.windows.phi.copy(), sticks.windows.freedom.copy()
    damping, known = sticks.windows.damping.copy(), sticks.ready.copy()
    for column in np.flatnonzero(is_prior).tolist():
        size = len(members.get(column, ()))
        if not size:
            continue
        error = _PRIOR_CAUTION * _MEDIAN_ERROR * sd / math.sqrt(size)
        level[..., column], inverse[..., column] = 0, 1 / error
        phi[..., column], freedom[..., column] = _PRIOR_PHI, _PRIOR_FREEDOM
        damping[..., column], known[:2, column] = 1, True
    windows = Measure(inverse, phi, freedom, damping)
    return replace(sticks, level=level, windows=windows, ready=known)
