# SPDX-License-Identifier: Apache-2.0
"""Fleets that never were: windows of devices whose truth is known.

Owns the simulator behind the drift measurements, deterministic by its seed. It shares
nothing with the engine: it knows rows, bins and moments, not scores or medians.

A row of device d and feature f at slot t is normal with mean
``offset_df + amplitude_d * season_f(t) + wander_dft + effects`` and a standard
deviation near 1. Offsets have sd 0.15, scales 0.05; the wander is AR(1) over windows
with sd 0.15 x lognormal(0.3) a stream and lag-1 correlation uniform up to ``most_phi``;
half the features have a daily season of 0.3, the others of 0.1, with two harmonics;
each device has an amplitude of its own, lognormal(0.3). Counts of a window are
multinomial over 16 bins; mean and variance are drawn given the counts, by the moments
of a normal inside each bin. Windows with a sensor fault are made row by row.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SLOTS_A_DAY: Final = 288
BINS: Final = 16
FaultKind = Literal["missing", "stuck", "saturated", "outside"]
TAGS: Final = {"hw": 4, "site": 10, "fw": 3, "version": 2}
_GRID = np.arange(-8.0, 8.0, 1e-3)
_CDF = np.array([(1 + math.erf(x / math.sqrt(2))) / 2 for x in _GRID])
EDGES: Final = np.interp(np.arange(1, BINS) / BINS, _CDF, _GRID)
# The range that a profile allows: what 6,000 reference rows hold, a tenth wider.
LOW, HIGH = -4.2, 4.2


@dataclass(frozen=True)
class Effect:
    """A change that begins at a slot and stays.

    Attributes:
        slot: Its first slot.
        devices: Which devices.
        features: Which features.
        shift: Added to the mean, in row sd.
        log_scale: Added to the logarithm of the row sd.
    """

    slot: int
    devices: tuple[int, ...]
    features: tuple[int, ...]
    shift: float = 0.0
    log_scale: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A sensor that breaks at a slot."""

    slot: int
    device: int
    feature: int
    kind: FaultKind


@dataclass(frozen=True)
class Release:
    """A release that comes to some devices at a slot."""

    slot: int
    devices: tuple[int, ...]
    name: str


@dataclass(frozen=True)
class Silence:
    """Devices of which no window comes, from a slot to before another."""

    slot: int
    until: int
    devices: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A fleet and what happens to it.

    Attributes:
        seed: Of all that is random.
        devices: How many.
        features: How many.
        rows: Mean rows a window, give or take 10 %.
        most_phi: Largest lag-1 correlation of a wander.
        has_season: Whether there is a daily season.
        gaps: Share of windows that never come.
        effects: Changes of the truth.
        faults: Broken sensors.
        releases: Deployments.
        silences: Windows that never come, beside ``gaps``.
    """

    seed: int
    devices: int = 1000
    features: int = 10
    rows: int = 300
    most_phi: float = 0.6
    has_season: bool = True
    gaps: float = 0.0
    effects: tuple[Effect, ...] = ()
    faults: tuple[Fault, ...] = ()
    releases: tuple[Release, ...] = ()
    silences: tuple[Silence, ...] = ()


@dataclass(frozen=True)
class Windows:
    """One slot of all devices, a column a device.

    Attributes:
        counts: float64 [F, 16, D].
        rows: float64 [F, D], finite values.
        mean: float64 [F, D].
        variance: float64 [F, D].
        missing: float64 [F, D].
        outside: float64 [F, D].
        repeat: float64 [F, D].
        came: bool [D].
    """

    counts: Floats
    rows: Floats
    mean: Floats
    variance: Floats
    missing: Floats
    outside: Floats
    repeat: Floats
    came: Bools


@dataclass
class Fleet:
    """A simulated fleet; ``next_windows`` gives one slot after the other.

    Args:
        plan: What it is.
    """

    plan: Plan
    slot: int = 0
    releases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw what stays: offsets, amplitudes, tags."""
        plan = self.plan
        self._random = np.random.default_rng(plan.seed)
        random, shape = self._random, (plan.features, plan.devices)
        self.tags = [
            {tag: f"{tag[0]}{random.integers(many)}" for tag, many in TAGS.items()}
            for _ in range(plan.devices)
        ]
        self.releases = ["r1"] * plan.devices
        self._offset = random.normal(0, 0.15, shape)
        self._scale = np.exp(random.normal(0, 0.05, shape))
        self._phi = random.uniform(0, plan.most_phi, shape)
        self._wander_sd = 0.15 * np.exp(random.normal(0, 0.3, shape))
        self._wander = random.normal(0, 1, shape) * self._wander_sd
        self._amplitude = np.exp(random.normal(0, 0.3, plan.devices))
        half = np.arange(plan.features) < plan.features / 2
        self._size = np.where(half, 0.3, 0.1) * plan.has_season
        self._phase = random.uniform(0, 2 * np.pi, (2, plan.features))

    def reseed(self, seed: int) -> None:
        """Draw from here on from another generator."""
        self._random = np.random.default_rng([seed, 3])

    @property
    def window_sd(self) -> float:
        """Standard deviation of a window's mean around its level, in row sd."""
        return math.sqrt(0.15**2 * math.exp(2 * 0.3**2) + 1 / self.plan.rows)

    def next_windows(self) -> Windows:
        """Return the next slot's windows."""
        plan, random, slot = self.plan, self._random, self.slot
        shape = self._wander.shape
        fresh = np.sqrt(1 - self._phi**2) * self._wander_sd
        self._wander = self._phi * self._wander + fresh * random.normal(0, 1, shape)
        mean = self._offset + self._wander + self._season(slot)
        sd = self._scale.copy()
        for one in plan.effects:
            if slot >= one.slot:
                place = np.ix_(one.features, one.devices)
                mean[place] += one.shift
                sd[place] *= math.exp(one.log_scale)
        for release in plan.releases:
            if slot == release.slot:
                for device in release.devices:
                    self.releases[device] = release.name
        rows = np.rint(plan.rows * random.uniform(0.9, 1.1, plan.devices))
        windows = _draw(random, mean, sd, rows)
        for fault in plan.faults:
            if slot >= fault.slot:
                _break(random, windows, fault, mean, sd)
        windows.came[:] = random.random(plan.devices) >= plan.gaps
        for silence in plan.silences:
            if silence.slot <= slot < silence.until:
                windows.came[list(silence.devices)] = False
        self.slot += 1
        return windows

    def _season(self, slot: int) -> Floats:
        angle = 2 * np.pi * slot / SLOTS_A_DAY
        wave = np.sin(angle + self._phase[0]) + 0.4 * np.sin(2 * angle + self._phase[1])
        season: Floats = np.outer(self._size * wave, self._amplitude)
        return season


def devices_with(fleet: Fleet, tag: str, value: str) -> tuple[int, ...]:
    """Return the devices that carry a tag's value."""
    return tuple(index for index, tags in enumerate(fleet.tags) if tags[tag] == value)


def _draw(
    random: np.random.Generator, mean: Floats, sd: Floats, rows: Floats
) -> Windows:
    features, devices = mean.shape
    limits = (EDGES[:, np.newaxis, np.newaxis] - mean) / sd
    below = np.interp(limits, _GRID, _CDF)
    one = np.ones((1, features, devices))
    cdf = np.concatenate((0 * one, below, one))
    share = np.diff(cdf, axis=0)
    flat = np.moveaxis(share, 0, -1)
    n = np.broadcast_to(rows, (features, devices)).astype(np.int64)
    drawn = random.multinomial(n, flat / flat.sum(axis=-1, keepdims=True))
    counts = np.moveaxis(drawn, -1, 0).astype(np.float64)
    first, second = _moments(random, counts, share, limits)
    total = np.maximum(rows, 1)
    centre = first / total
    tail = np.interp((LOW - mean) / sd, _GRID, _CDF)
    tail = tail + 1 - np.interp((HIGH - mean) / sd, _GRID, _CDF)
    outside = random.binomial(n, np.clip(tail, 0, 1)).astype(np.float64)
    nothing = np.zeros((features, devices))
    return Windows(
        counts=np.moveaxis(counts, 0, 1),
        rows=n.astype(np.float64),
        mean=mean + sd * centre,
        variance=np.maximum(sd**2 * (second / total - centre**2), 1e-9),
        missing=nothing,
        outside=outside,
        repeat=nothing.copy(),
        came=np.ones(devices, dtype=bool),
    )


def _moments(
    random: np.random.Generator, counts: Floats, share: Floats, limits: Floats
) -> tuple[Floats, Floats]:
    """Draw the sums of standardised values and of squares, given the counts.

    The moments of a normal inside a bin follow by recursion over its limits; given the
    counts both sums are nearly normal, with the covariance that those moments give.
    """
    density = np.exp(-(limits**2) / 2) / math.sqrt(2 * math.pi)
    p = np.maximum(share, 1e-12)

    parts = []
    value = density
    nothing = np.zeros_like(value[:1])
    for _ in range(4):  # limits to the power of 0 to 3, times the density
        lower = np.concatenate((nothing, value))
        upper = np.concatenate((value, nothing))
        parts.append((lower - upper) / p)
        value = value * limits
    e1 = parts[0]
    e2 = 1 + parts[1]
    e3 = 2 * e1 + parts[2]
    e4 = 3 * e2 + parts[3]
    v1 = np.maximum((counts * (e2 - e1**2)).sum(axis=0), 0)
    v2 = np.maximum((counts * (e4 - e2**2)).sum(axis=0), 0)
    both = (counts * (e3 - e1 * e2)).sum(axis=0)
    a, b = random.normal(0, 1, (2, *v1.shape))
    root = np.sqrt(np.maximum(v1, 1e-12))
    slope = both / root
    rest = np.sqrt(np.maximum(v2 - slope**2, 0))
    first = (counts * e1).sum(axis=0) + root * a
    second = (counts * e2).sum(axis=0) + slope * a + rest * b
    return first, second


def _break(
    random: np.random.Generator,
    windows: Windows,
    fault: Fault,
    mean: Floats,
    sd: Floats,
) -> None:
    """Replace one stream's window by rows of a broken sensor."""
    place = fault.feature, fault.device
    n = int(windows.rows[place] + windows.missing[place])
    values = mean[place] + sd[place] * random.normal(0, 1, n)
    if fault.kind == "missing":
        values[random.random(n) < 0.3] = np.nan
    elif fault.kind == "stuck":
        values[:] = mean[place]
    elif fault.kind == "saturated":
        values = np.minimum(values, mean[place] + sd[place])
    else:
        values = np.where(random.random(n) < 0.4, 9.0, values)
    finite = values[np.isfinite(values)]
    bins = np.searchsorted(EDGES, finite, side="right")
    windows.counts[fault.feature, :, fault.device] = np.bincount(bins, minlength=BINS)
    windows.rows[place] = len(finite)
    windows.missing[place] = n - len(finite)
    windows.mean[place] = finite.mean()
    windows.variance[place] = max(float(finite.var()), 1e-9)
    windows.outside[place] = int(((finite < LOW) | (finite > HIGH)).sum())
    windows.repeat[place] = int((values[1:] == values[:-1]).sum())


def pick(random: np.random.Generator, many: int, of: Sequence[int]) -> tuple[int, ...]:
    """Return ``many`` of some numbers, in growing order."""
    return tuple(
        sorted(int(x) for x in random.choice(np.array(of), many, replace=False))
    )
